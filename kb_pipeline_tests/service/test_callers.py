"""Who may send a request, and that every refusal is a problem in the standard's form."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

import kb_pipeline
from kb_pipeline.control.tenancy.api_keys import create_key, revoke_key
from kb_pipeline.service.app import create_app
from kb_pipeline.service_settings import ServiceSettings
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


def test_every_answer_says_what_is_left_of_the_rates(two_tenants: Home, http: TestClient) -> None:
    key, _ = create_key(two_tenants.db, "acme", ["read"], "tester", requests_per_minute=2)
    client = Client(http, key)
    first, second, third = (client.get("/kbs") for _ in range(3))
    assert first.headers["ratelimit-policy"] == '"key";q=2;w=60'
    assert first.headers["ratelimit"].startswith('"key";r=1;t=')
    assert second.headers["ratelimit"].startswith('"key";r=0;t=')
    assert (third.status_code, third.json()["type"]) == (429, "urn:kb-pipeline:problem:rate-limited")
    assert 1 <= int(third.headers["retry-after"]) <= 30
    assert third.headers["ratelimit"].startswith('"key";r=0;t=')
    assert "ratelimit" not in Client(http, key_of(two_tenants)).get("/kbs").headers


def test_no_page_elsewhere_may_send_requests_unless_its_origin_is_listed(two_tenants: Home, http: TestClient) -> None:
    asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    assert http.options(f"{API}/kbs", headers=asked).status_code == 401
    assert "access-control-allow-origin" not in http.get("/healthz", headers=asked).headers
    service = ServiceSettings(cors_origins=("https://a.example",))
    home = kb_pipeline.open(settings=replace(two_tenants.settings, service=service))
    with TestClient(create_app(home)) as listed:
        allowed = listed.options(
            f"{API}/kbs", headers=asked | {"Access-Control-Request-Headers": "authorization, mcp-session-id"}
        )
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, "https://a.example")
        assert "access-control-allow-credentials" not in allowed.headers
        answer = listed.get(f"{API}/kbs", headers=asked)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, "https://a.example")
        assert "Mcp-Session-Id" in answer.headers["access-control-expose-headers"]
        other = listed.get("/healthz", headers={"Origin": "https://b.example"})
        assert "access-control-allow-origin" not in other.headers


def test_a_body_that_is_too_long_is_refused_to_everybody(http: TestClient, acme: Client) -> None:
    body = b"{}" + b" " * (1 << 20)
    assert acme.post("/kbs/acme.docs/search", content=body).status_code == 413
    assert Client(http, None)("POST", f"{API}/kbs/acme.docs/search", content=body).status_code == 413


def test_many_clients_of_one_tenant_at_once_are_all_answered(acme: Client) -> None:
    with ThreadPoolExecutor(32) as threads:
        found = threads.map(lambda _: acme.get("/kbs/acme.docs/search", params={"q": "apples"}), range(96))
        assert {answer.status_code for answer in found} == {200}
