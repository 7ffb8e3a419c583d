"""Drafts over HTTP: written piece by piece, tried out, checked, and made a KB with its job, once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from kb_pipeline.control.db.models import KbDraft
from kb_pipeline.control.kbs.drafts import forget_expired_drafts
from kb_pipeline.control.runs.jobs import list_jobs
from kb_pipeline.model import KbKey
from kb_pipeline_tests.operations.home import MODEL, Home, quick_refreshes, web_source
from kb_pipeline_tests.service.serving import API, Client, in_process, key_of, served
from kb_pipeline_tests.site import Site, plant_orchard, serve_site


@pytest.fixture(scope="module")
def orchard() -> Iterator[Site]:
    with serve_site() as site:
        plant_orchard(site)
        yield site


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, orchard: Site) -> Home:
    home = Home(tmp_path_factory.mktemp("drafts") / "home", models_dir)
    with quick_refreshes():
        for tenant in ("acme", "globex"):
            home.apply(orchard, KbKey(tenant, "first"))
    return home


@pytest.fixture(scope="module")
def http(home: Home) -> Iterator[TestClient]:
    with in_process(home) as opened:
        yield opened


@pytest.fixture(scope="module")
def ours(home: Home, http: TestClient) -> Client:
    return Client(http, key_of(home))


def begin(client: Client, site: Site, kb: str, **fields: Any) -> str:
    """Begin a whole draft; return its path."""
    body = {"kb": kb, "sources": [web_source(site)], "embedding": {"model": MODEL}, **fields}
    created = client.post("/kb-drafts", json=body)
    assert created.status_code == 201
    return str(created.headers["location"]).removeprefix(API)


def test_a_draft_is_written_piece_by_piece_and_becomes_what_it_says(ours: Client, orchard: Site) -> None:
    path = "/kb-drafts/" + ours.post("/kb-drafts", json={}).json()["id"]
    verdict = ours.post(f"{path}/validate").json()
    assert (verdict["valid"], {each["pointer"] for each in verdict["problems"]}) == (False, {"/kb", "/sources"})
    ours("PATCH", API + path, json={"kb": "guide", "languages": ["en"], "schedule": {"cron": "0 3 * * *"}})
    ours("PATCH", API + path, json={"schedule": None})
    ours.post(f"{path}/sources", json={"name": "gone", "type": "web", "start_urls": ["http://gone.example/"]})
    ours.post(f"{path}/sources", json=web_source(orchard, max_pages=2))
    ours.post(f"{path}/sources", json=web_source(orchard))
    assert ours("DELETE", f"{API}{path}/sources/gone").status_code == 200
    assert ours("DELETE", f"{API}{path}/sources/gone").status_code == 422
    ours("PUT", f"{API}{path}/embedding", json={"model": MODEL})
    ours("PUT", f"{API}{path}/chunking", json={"max_tokens": 12})
    (problem,) = ours.post(f"{path}/validate").json()["problems"]
    assert problem["pointer"] == "/chunking/max_tokens"
    assert ours.post(f"{path}/finalize").status_code == 422, "and the draft is still there"
    ours("PUT", f"{API}{path}/chunking", json={"max_tokens": 128})
    assert ours.post(f"{path}/validate").json()["valid"]
    done = ours.post(f"{path}/finalize")
    assert done.status_code == 202
    job = ours("GET", done.json()["tracking_url"]).json()
    assert (job["id"], job["kb"], job["state"]) == (done.json()["job_id"], "acme.guide", "queued")
    assert done.json()["kb_id"] == "acme.guide"
    assert '"max_tokens": 128' in ours.get("/kbs/acme.guide/file").json()["yaml"]
    assert ours.get(path).status_code == 404


def test_a_preview_shows_real_pages_and_what_was_dropped_and_changes_nothing(ours: Client, orchard: Site) -> None:
    path = begin(ours, orchard, "shown")
    kbs = ours.get("/kbs").json()
    pages = ours.post(f"{path}/preview", json={"pages": 2}).json()["pages"]
    assert len(pages) == 2
    for page in pages:
        assert page["outcome"] == "document"
        assert all(page["markdown"][chunk["start"] : chunk["end"]] == chunk["text"] for chunk in page["chunks"])
        assert page["chunks"]
    assert ours.get("/kbs").json() == kbs
    assert ours.get(path).status_code == 200


def test_an_estimate_is_a_range_that_holds_what_the_site_has(ours: Client, orchard: Site) -> None:
    path = begin(ours, orchard, "estimated")
    told = ours.post(f"{path}/estimate").json()
    for name in ("pages", "bytes", "tokens", "cost", "minutes"):
        assert told[name]["low"] <= told[name]["expected"] <= told[name]["high"], name
        assert told[name]["how"]
    assert told["pages"]["low"] <= len(orchard.pages) <= told["pages"]["high"]
    done = ours.post(f"{path}/finalize").json()
    assert datetime.fromisoformat(done["estimated_completion"]) > datetime.now(UTC)


def test_a_draft_expires_and_another_tenants_is_not_there(
    home: Home, http: TestClient, ours: Client, orchard: Site
) -> None:
    path = begin(ours, orchard, "mine")
    theirs = Client(http, key_of(home, "globex"))
    nowhere = "/kb-drafts/" + "0" * 32
    for method, suffix, body in (
        ("GET", "", None), ("PATCH", "", {"kb": "x"}), ("DELETE", "", None), ("POST", "/validate", None),
        ("POST", "/preview", None), ("POST", "/estimate", None), ("POST", "/finalize", None),
        ("POST", "/sources", {"name": "x"}), ("DELETE", "/sources/x", None), ("PUT", "/chunking", {}),
        ("PUT", "/embedding", {}),
    ):  # fmt: skip
        answers = [theirs(method, f"{API}{each}{suffix}", json=body) for each in (path, nowhere)]
        assert {answer.status_code for answer in answers} == {404}, (method, suffix)
        assert answers[0].text.replace(path[-32:], "<id>") == answers[1].text.replace("0" * 32, "<id>")
    assert theirs.get("/kb-drafts").json() == {"drafts": []}
    assert theirs.get("/kb-drafts", params={"tenant": "acme"}).status_code == 404
    assert theirs.post("/kb-drafts", json={"tenant": "acme"}).status_code == 404
    with home.db.write("acme") as session:
        session.execute(update(KbDraft).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert ours.get(path).status_code == 404
    assert ours.get("/kb-drafts").json() == {"drafts": []}
    forget_expired_drafts(home.db)
    with home.db.read("acme") as session:
        assert session.query(KbDraft).count() == 0


def test_a_request_that_is_sent_again_with_its_key_is_answered_as_before(ours: Client, orchard: Site) -> None:
    path = begin(ours, orchard, "once")
    headers = {"Idempotency-Key": '"5e0b"'}
    first = ours.post(f"{path}/finalize", headers=headers)
    again = ours.post(f"{path}/finalize", headers=headers)
    assert (first.status_code, first.json()) == (again.status_code, again.json()) == (202, first.json())
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    other = ours.post("/kbs/acme.once/jobs", headers=headers)
    assert (other.status_code, other.json()["type"]) == (422, "urn:kb-pipeline:problem:key-reused")
    assert ours.post("/kbs/acme.once/jobs", headers={"Idempotency-Key": "a b"}).status_code == 422
    started = [ours.post("/kbs/acme.once/jobs", headers={"Idempotency-Key": "k"}, json={"retry": True}) for _ in "ab"]
    assert started[0].json() == started[1].json()
    assert ours.post("/kbs/acme.once/jobs", headers={"Idempotency-Key": "k"}, json={}).status_code == 422


def test_one_key_fifty_times_at_once_is_one_kb_and_one_job(home: Home, orchard: Site) -> None:
    key = key_of(home)
    before = {job.id for job in list_jobs(home.db, "acme", limit=1000)}
    with served(home, "--workers", "2") as (address, _), httpx2.Client(base_url=f"{address}{API}") as client:
        client.headers["Authorization"] = f"Bearer {key}"
        body = {"kb": "fifty", "sources": [web_source(orchard)], "embedding": {"model": MODEL}}
        draft = client.post("/kb-drafts", json=body, timeout=120).json()["id"]

        def finish(_: int) -> Any:
            headers = {"Idempotency-Key": "fifty"}
            return client.post(f"/kb-drafts/{draft}/finalize", headers=headers, timeout=120)

        def start(_: int) -> Any:
            return client.post("/kbs/acme.first/jobs", headers={"Idempotency-Key": "start"}, timeout=120)

        with ThreadPoolExecutor(50) as threads:
            finished, started = list(threads.map(finish, range(50))), list(threads.map(start, range(50)))
    for answers in (finished, started):
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.text for answer in answers}) == 1
        assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    after = {job.id for job in list_jobs(home.db, "acme", limit=1000)} - before
    assert after == {finished[0].json()["job_id"], started[0].json()["job_id"]}
