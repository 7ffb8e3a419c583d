"""Other names of jobs say what the jobs say; a page that asks every two seconds is told when nothing changed."""

from __future__ import annotations

from starlette.testclient import TestClient

from kb_pipeline_tests.operations.home import Home
from kb_pipeline_tests.service.serving import Client, key_of

FIELDS = {
    "status", "current_stage", "progress_percentage", "stats", "started_at", "estimated_completion",
}  # fmt: skip
STATS = {
    "pages_discovered", "pages_scraped", "pages_failed", "chunks_created", "embeddings_generated", "vectors_indexed",
}  # fmt: skip


def test_a_pipeline_is_the_newest_job_of_a_kb_or_a_job(acme: Client) -> None:
    (job, *_) = acme.get("/workflows").json()["jobs"]
    assert acme.get("/workflows").json() == acme.get("/jobs").json()
    assert acme.get(f"/workflows/{job['id']}").json() == acme.get(f"/jobs/{job['id']}").json()
    by_kb, by_job = acme.get("/pipelines/acme.docs/status"), acme.get(f"/pipelines/{job['id']}/status")
    assert by_kb.json() == by_job.json()
    told = by_kb.json()
    assert set(told) == FIELDS
    assert set(told["stats"]) == STATS
    assert (told["status"], told["current_stage"], told["progress_percentage"]) == ("ready", None, 100.0)
    assert told["stats"]["pages_scraped"] == told["stats"]["pages_discovered"] == 5
    assert told["stats"]["chunks_created"] == told["stats"]["vectors_indexed"] > 0


def test_what_has_not_changed_is_not_sent_again(acme: Client) -> None:
    first = acme.get("/pipelines/acme.docs/status")
    again = acme.get("/pipelines/acme.docs/status", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = acme.get("/pipelines/acme.docs/status", headers={"If-None-Match": '"another"'})
    assert other.json() == first.json()


def test_another_tenants_pipeline_is_not_there(two_tenants: Home, http: TestClient, acme: Client) -> None:
    theirs = Client(http, key_of(two_tenants, "globex"))
    job = acme.get("/jobs").json()["jobs"][0]["id"]
    for path in ("/pipelines/acme.docs/status", f"/pipelines/{job}/status", f"/workflows/{job}"):
        assert theirs.get(path).status_code == 404
    assert theirs.post("/crawl", json={"kb": "acme.docs"}).status_code == 404
    assert acme.post("/crawl", json={"kb": "acme.docs", "nonsense": 1}).status_code == 422
