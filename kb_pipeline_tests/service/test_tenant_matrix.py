"""Every operation x another tenant's id: the same 404 as for what does not exist, and nothing changes.

A new operation has a place here, or the first test fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.testclient import TestClient

from kb_pipeline.installation import Installation
from kb_pipeline_tests.service.serving import API, THEIRS, Client

THEIR_ID, NO_ID = "globex.docs", "nobody.docs"
DOCUMENT = "0" * 32


@dataclass(frozen=True)
class Call:
    """How an operation is asked about a KB; `KB` in it stands for the KB's id."""

    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None


OF_A_KB: dict[str, Call] = {
    "GET /kbs/{kb}": Call(),
    "DELETE /kbs/{kb}": Call(),
    "GET /kbs/{kb}/file": Call(),
    "GET /kbs/{kb}/settings": Call(),
    "PATCH /kbs/{kb}/settings": Call(body={"languages": ["de"]}),
    "GET /kbs/{kb}/search": Call(query={"q": "apples"}),
    "POST /kbs/{kb}/search": Call(body={"query": "apples"}),
    "GET /kbs/{kb}/documents": Call(),
    "GET /kbs/{kb}/documents/{document_id}": Call({"document_id": DOCUMENT}),
    "GET /kbs/{kb}/documents/{document_id}/markdown": Call({"document_id": DOCUMENT}),
    "GET /kbs/{kb}/documents/{document_id}/raw": Call({"document_id": DOCUMENT}),
    "GET /kbs/{kb}/documents/{document_id}/chunks": Call({"document_id": DOCUMENT}),
    "GET /kbs/{kb}/documents/{document_id}/replay": Call({"document_id": DOCUMENT}),
    "GET /kbs/{kb}/versions": Call(),
    "GET /kbs/{kb}/diff": Call(query={"from": "1"}),
    "GET /kbs/{kb}/feed": Call(query={"from": "1"}),
    "POST /kbs/{kb}/rollback": Call(body={"version": 1}),
    "POST /kbs/{kb}/versions/{version}/approve": Call({"version": "1"}),
    "POST /kbs/{kb}/erasures": Call(body={"key": "http://no.example/"}),
    "POST /kbs/{kb}/erasures/lift": Call(body={"key": "http://no.example/"}),
    "GET /kbs/{kb}/failures": Call(),
    "POST /kbs/{kb}/failures/retry": Call(),
    "GET /kbs/{kb}/flags": Call(),
    "GET /kbs/{kb}/account": Call(),
    "GET /kbs/{kb}/left-out": Call(),
    "POST /kbs/{kb}/answers": Call(body={"question": "What keeps for months?"}),
    "POST /kbs/{kb}/jobs": Call(body={}),
    "GET /kbs/{kb}/explain": Call(query={"url": "http://no.example/"}),
    "POST /search": Call(body={"kb": "KB", "query": "apples"}),
    "POST /vectorize": Call(body={"kb": "KB", "text": "apples"}),
    "GET /v1/models/{model}": Call({"model": "kb/KB"}),
    "GET /v1/vector_stores/{store}": Call({"store": "vs_KB"}),
    "POST /v1/vector_stores/{store}/search": Call({"store": "vs_KB"}, body={"query": "apples"}),
    "GET /v1/vector_stores/{store}/files": Call({"store": "vs_KB"}),
    "GET /v1/vector_stores/{store}/files/{file_id}": Call({"store": "vs_KB", "file_id": f"file-{DOCUMENT}"}),
    "GET /v1/vector_stores/{store}/files/{file_id}/content": Call({"store": "vs_KB", "file_id": f"file-{DOCUMENT}"}),
    "POST /v1/chat/completions": Call(body={"model": "kb/KB", "messages": [{"role": "user", "content": "apples"}]}),
    "POST /v1/responses": Call(
        body={"model": "any", "input": "a", "tools": [{"type": "file_search", "vector_store_ids": ["vs_KB"]}]}
    ),
    "POST /dify/retrieval": Call(body={"knowledge_id": "KB", "query": "apples", "retrieval_setting": {"top_k": 3}}),
    "POST /openwebui/search": Call(query={"kb": "KB"}, body={"query": "apples"}),
}
"""Operations on one KB, whose id is in the path, the query or the body."""
OF_A_TENANT: dict[str, Call] = {
    "GET /tenants/{tenant}": Call(),
    "GET /tenants/{tenant}/keys": Call(),
    "POST /tenants/{tenant}/keys": Call(body={"scopes": ["read"]}),
    "DELETE /tenants/{tenant}/keys/{key_id}": Call({"key_id": "0" * 12}),
    "GET /tenants/{tenant}/secrets": Call(),
    "PUT /tenants/{tenant}/secrets/{name}": Call({"name": "TOKEN"}, body={"value": "x"}),
    "DELETE /tenants/{tenant}/secrets/{name}": Call({"name": "TOKEN"}),
    "GET /audit": Call(query={"tenant": "TENANT"}),
    "GET /usage": Call(query={"tenant": "TENANT"}),
    "GET /quotas": Call(query={"tenant": "TENANT"}),
    "GET /limits": Call(query={"tenant": "TENANT"}),
}
"""Operations on what a tenant's administrators see of it, whose name is in the path or the query; see `ask`."""
OF_THE_OPERATOR: dict[str, Call] = {
    "GET /tenants": Call(),
    "POST /tenants": Call(body={"tenant": "TENANT"}),
    "DELETE /tenants/{tenant}": Call(query={"now": True}),
    "PUT /tenants/{tenant}/plan": Call(body={"plan": "default"}),
    "POST /tenants/{tenant}/suspend": Call(),
    "POST /tenants/{tenant}/resume": Call(),
    "GET /plans": Call(),
    "POST /plans": Call(body={"plan": "TENANT"}),
    "GET /plans/{plan}": Call({"plan": "TENANT"}),
    "GET /operator-keys": Call(),
    "POST /operator-keys": Call(body={}),
    "DELETE /operator-keys/{key_id}": Call({"key_id": "0" * 12}),
    "PUT /flags/{flag}": Call({"flag": "FLAG"}, body={"variant": "on", "kb": "TENANT.docs"}),
    "PUT /flags/{flag}/rollout": Call({"flag": "FLAG"}, body={"shares": []}),
    "DELETE /flags/{flag}": Call({"flag": "FLAG"}, query={"tenant": "TENANT"}),
    "GET /audit/chains": Call(),
}
"""Operations that no tenant's token may do: 403, whatever it names."""
OF_THE_CALLER = {
    "GET /kbs", "POST /kbs", "GET /flags", "GET /flags/{flag}/overrides", "GET /v1/models", "POST /v1/embeddings",
    "GET /v1/vector_stores",
}  # fmt: skip
"""Operations that name no KB by its id: what they show is the caller's own, see their tests."""
OF_A_JOB = {"GET /jobs", "GET /jobs/{job_id}", "POST /jobs/{job_id}/cancel", "GET /jobs/{job_id}/events"}
"""Operations on a job by its id: api/test_jobs.py asks each for another tenant's."""
OF_A_DRAFT = {
    "GET /kb-drafts", "POST /kb-drafts", "GET /kb-drafts/{draft_id}", "PATCH /kb-drafts/{draft_id}",
    "DELETE /kb-drafts/{draft_id}", "POST /kb-drafts/{draft_id}/sources",
    "DELETE /kb-drafts/{draft_id}/sources/{name}", "PUT /kb-drafts/{draft_id}/chunking",
    "PUT /kb-drafts/{draft_id}/embedding", "POST /kb-drafts/{draft_id}/validate",
    "POST /kb-drafts/{draft_id}/preview", "POST /kb-drafts/{draft_id}/estimate",
    "POST /kb-drafts/{draft_id}/finalize",
}  # fmt: skip
"""Operations on a draft by its id: api/test_drafts.py asks each for another tenant's."""
ALIASES = {"POST /crawl", "GET /workflows", "GET /workflows/{job_id}", "GET /pipelines/{id}/status"}
"""Other names of operations on jobs: api/test_aliases.py asks each for another tenant's."""
OUTSIDE = {"/healthz", "/readyz", "/metrics"}
"""Of the service itself."""
OTHER_SHAPES = ("/v1/", "/dify/", "/openwebui/")


def operations(http: TestClient) -> Iterator[str]:
    for path, methods in http.get(f"{API}/openapi.json").json()["paths"].items():
        if path not in OUTSIDE:
            yield from (f"{method.upper()} {path.removeprefix(API)}" for method in methods)


def ask(client: Client, operation: str, kb: str) -> Any:
    """Send an operation of which `kb` is the KB's id, or the part before its dot the tenant's name."""
    method, template = operation.split(" ")
    call = (OF_A_KB | OF_A_TENANT | OF_THE_OPERATOR)[operation]
    path = template.format(**{"kb": kb, "tenant": kb.partition(".")[0]} | named(call.path, kb))
    prefix = "" if template.startswith(OTHER_SHAPES) else API
    return client(method, prefix + path, params=named(call.query, kb), json=named(call.body, kb))


def named(value: Any, kb: str) -> Any:
    """Put the KB's id in the place of `KB`, and its tenant's name in that of `TENANT`."""
    if isinstance(value, str):
        return value.replace("KB", kb).replace("TENANT", kb.partition(".")[0])
    if isinstance(value, list):
        return [named(each, kb) for each in value]
    return {name: named(each, kb) for name, each in value.items()} if isinstance(value, Mapping) else value


def test_every_operation_has_a_place_in_the_matrix(http: TestClient) -> None:
    of_tenants = OF_A_TENANT.keys() | OF_THE_OPERATOR.keys()
    assert set(operations(http)) == OF_A_KB.keys() | of_tenants | OF_THE_CALLER | OF_A_JOB | OF_A_DRAFT | ALIASES
    assert all("{kb}" in each or "KB" in repr(call) for each, call in OF_A_KB.items())
    assert all("{tenant}" in each or "TENANT" in repr(call) for each, call in OF_A_TENANT.items())


@pytest.mark.parametrize("operation", [*OF_A_KB, *OF_A_TENANT])
def test_what_is_another_tenants_is_answered_as_what_does_not_exist(
    operation: str, acme: Client, api: Installation
) -> None:
    before = _state(api)
    theirs, nobodys = ask(acme, operation, THEIR_ID), ask(acme, operation, NO_ID)
    assert theirs.status_code == nobodys.status_code == 404
    assert re.sub("globex", "nobody", theirs.text) == nobodys.text
    assert dict(theirs.headers) | _VARYING == dict(nobodys.headers) | _VARYING
    assert _state(api) == before


@pytest.mark.parametrize("operation", OF_A_KB)
@pytest.mark.parametrize(
    "given", ["globex", "globex/docs", "globex.docs.", ".docs", "acme.docs/../globex.docs", "%00.docs"]
)
def test_what_can_be_no_id_is_404_or_another_path(operation: str, given: str, acme: Client) -> None:
    assert ask(acme, operation, given).status_code in (404, 405)


@pytest.mark.parametrize("operation", OF_THE_OPERATOR)
def test_what_is_the_operators_is_refused_alike_whatever_is_named(
    operation: str, acme: Client, api: Installation
) -> None:
    before = _state(api)
    told = [ask(acme, operation, kb) for kb in ("acme.docs", THEIR_ID, NO_ID)]
    assert {each.status_code for each in told} == {403}
    assert len({each.text for each in told}) == 1
    assert _state(api) == before


@pytest.mark.parametrize("given", ["%00", "Globex", "globex%2Fdocs", "-", "x" * 64])
def test_what_can_be_no_tenants_name_is_404_too(given: str, acme: Client) -> None:
    assert acme.get(f"/tenants/{given}/keys").status_code == 404
    assert acme.get(f"/audit?tenant={given}").status_code == 404


_VARYING = {"x-request-id": "", "date": "", "content-length": ""}


def _state(api: Installation) -> tuple[object, ...]:
    opened = api.kb(THEIRS)
    return opened.status(), opened.file(), opened.versions(), list(api.audit.list("globex"))
