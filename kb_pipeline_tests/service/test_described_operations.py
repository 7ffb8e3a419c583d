"""Whatever the description of the API allows, and what it does not, is answered: never by a fault, always in its form.

Schemathesis makes the requests. They are the same in every run, and go to a home of their own, since they change it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from schemathesis.generation import GenerationMode
from schemathesis.generation.case import Case
from schemathesis.schemas import BaseSchema
from starlette.testclient import TestClient

import kb_pipeline
from kb_pipeline.installation import Installation
from kb_pipeline_tests.operations.home import MODEL, Home, quick_refreshes, web_source
from kb_pipeline_tests.service.serving import API, DOCS, PROBLEM, in_process, key_of
from kb_pipeline_tests.site import Site, plant_orchard, serve_site

DESCRIPTION = Path(__file__).parents[2] / "docs/openapi.json"
OPERATIONS = [
    f"{method.upper()} {path}"
    for path, operations in json.loads(DESCRIPTION.read_text())["paths"].items()
    for method in operations
]
EXAMPLES = 5
"""Requests of each kind to each operation."""
NOT_AIMED = {f"DELETE {API}/kbs/{{kb}}"}
"""Operations that would take away what the others are aimed at."""
STARTS_PROCESSES = ("/replay", "/preview", "/estimate")
"""Of these one request of each kind is enough: each takes a second or more."""
TAKES_NOTHING = {"GET /healthz", "GET /readyz"}
"""Operations to which no request can be wrong."""
MODES = {"allowed": GenerationMode.POSITIVE, "not allowed": GenerationMode.NEGATIVE}
MAX_URL_CHARS = 65_000
"""Longer ones reach no application: the server refuses them."""
Ids = Mapping[str, str]


@pytest.fixture(scope="module")
def orchard() -> Iterator[Site]:
    with serve_site() as site:
        plant_orchard(site)
        yield site


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, orchard: Site) -> Home:
    home = Home(tmp_path_factory.mktemp("described") / "home", models_dir)
    with quick_refreshes():
        home.apply(orchard, DOCS)
        assert home.refresh(DOCS).status == "ready"
    return home


@pytest.fixture(scope="module")
def key(home: Home) -> str:
    return key_of(home)


@pytest.fixture(scope="module")
def http(home: Home) -> Iterator[TestClient]:
    with quick_refreshes(), in_process(home) as opened:
        yield opened


@pytest.fixture(scope="module")
def described() -> BaseSchema:
    return schemathesis.openapi.from_path(DESCRIPTION)


@pytest.fixture(scope="module")
def ours(home: Home, key: str) -> Iterator[Installation]:
    with kb_pipeline.open(settings=home.settings, api_key=key) as opened:
        yield opened


@pytest.fixture(scope="module")
def stored(ours: Installation) -> Ids:
    (job,) = ours.jobs()
    assert job.has_ended, "its events come to an end"
    document = next(iter(ours.kb(DOCS).documents())).document_id
    return {
        "kb": "acme.docs", "knowledge_id": "acme.docs", "id": "acme.docs", "store": "vs_acme.docs",
        "model": "kb/acme.docs", "document_id": document, "file_id": f"file-{document}", "job_id": job.id,
        "version": "1", "name": "site",
    }  # fmt: skip


@pytest.fixture
def ids(ours: Installation, stored: Ids, orchard: Site) -> Ids:
    """Return what there is, by the name of the parameter or field: a request that names nothing real gets not far."""
    draft = ours.drafts.create({"kb": "guide", "sources": [web_source(orchard)], "embedding": {"model": MODEL}})
    return {**stored, "draft_id": draft.id}


@pytest.mark.parametrize(
    ("operation", "mode"),
    [(each, mode) for each in OPERATIONS for mode in MODES if mode == "allowed" or each not in TAKES_NOTHING],
)
def test_no_request_meets_a_fault_and_every_refusal_is_a_problem(
    described: BaseSchema, http: TestClient, ids: Ids, key: str, operation: str, mode: str
) -> None:
    method, path = operation.split(" ")

    @settings(
        max_examples=1 if path.endswith(STARTS_PROCESSES) else EXAMPLES, derandomize=True, database=None,
        deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(described[path][method].as_strategy(MODES[mode]))
    def ask(case: Case[Any]) -> None:
        if operation not in NOT_AIMED:
            _aim(case, ids)
        sent: Any = requests.Request(**case.as_transport_kwargs("http://testserver")).prepare()
        sent.headers["Authorization"] = f"Bearer {key}"
        assume(len(sent.url) < MAX_URL_CHARS)
        answer = http.request(sent.method, sent.url, headers=dict(sent.headers), content=sent.body)
        assert answer.status_code < 500, f"{case.as_curl_command()}\n{answer.text}"
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == PROBLEM, f"{case.as_curl_command()}\n{answer.text}"

    ask()


def _aim(case: Case[Any], ids: Ids) -> None:
    """Have a request name what there is."""
    for part in (case.path_parameters, case.query, case.body):
        if isinstance(part, dict):
            part.update({name: value for name, value in ids.items() if isinstance(part.get(name), str)})
