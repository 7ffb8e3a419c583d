"""Who may send a request, and that every refusal is a problem in the standard's form."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from kb_pipeline.control.tenancy.api_keys import revoke_key
from kb_pipeline_tests.operations.home import Home
from kb_pipeline_tests.service.serving import API, Client, key_of


def test_the_process_says_that_it_lives_without_a_token(http: TestClient) -> None:
    assert http.get("/healthz").json() == {"status": "alive"}


@pytest.mark.parametrize("path", [f"{API}/kbs", f"{API}/kbs/acme.docs", f"{API}/nothing", "/", "/healthz/x"])
def test_whoever_shows_no_token_learns_nothing_of_what_there_is(http: TestClient, path: str) -> None:
    answer = Client(http, None)("GET", path)
    assert (answer.status_code, answer.json()["type"]) == (401, "urn:kb-pipeline:problem:key-refused")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "sent", ["Bearer", "Bearer ", "Basic a2I6", "kb_acme", "Bearer kb_acme_000000000000_x", "Bearer \x7f"]
)
def test_what_is_no_key_is_refused(http: TestClient, sent: str) -> None:
    assert Client(http, None)("GET", f"{API}/kbs", headers={"Authorization": sent}).status_code == 401


def test_a_revoked_key_is_refused_from_the_next_request_on(two_tenants: Home, http: TestClient) -> None:
    key = key_of(two_tenants)
    client = Client(http, key)
    assert client.get("/kbs").status_code == 200
    revoke_key(two_tenants.db, "acme", key.split("_")[2], "tester")
    assert client.get("/kbs").status_code == 401


def test_a_key_does_what_its_scopes_allow(two_tenants: Home, http: TestClient) -> None:
    answer = Client(http, key_of(two_tenants, "acme", "build")).get("/kbs")
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:kb-pipeline:problem:not-allowed")
    assert "read" in answer.json()["detail"]


def test_unknown_paths_and_methods_are_problems_too(acme: Client) -> None:
    assert acme.get("/nothing").status_code == 404
    assert acme("DELETE", f"{API}/kbs").status_code == 405
    assert acme("DELETE", f"{API}/kbs").headers["allow"] == "GET"
