"""`/metrics`: valid for Prometheus, a tenant's own, and small however many KBs there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.runs.figures import read_figures
from kb_pipeline.control.tenancy.operator_keys import create_key as create_operator_key
from kb_pipeline.model import KbKey
from kb_pipeline.operations.metrics import as_metrics
from kb_pipeline_tests.control.runs.test_figures import refreshed
from kb_pipeline_tests.operations.home import Home
from kb_pipeline_tests.service.serving import Client


def samples(text: str) -> Iterator[tuple[str, Mapping[str, str], float]]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def test_a_key_is_shown_how_its_own_kbs_stand(acme: Client) -> None:
    found = acme("GET", "/metrics")
    assert found.headers["content-type"].startswith("text/plain; version=")
    told = list(samples(found.text))
    assert {labels["tenant"] for _, labels, _ in told if "tenant" in labels} == {"acme"}
    values = {(name, labels.get("kb")): value for name, labels, value in told if set(labels) <= {"tenant", "kb"}}
    assert values["kb_documents", "docs"] > 3
    assert values["kb_well", "docs"] == 1
    assert values["kb_version_age_seconds", "docs"] > 0
    by_stage = {labels["stage"] for name, labels, _ in told if name == "kb_stage_seconds"}
    assert by_stage == {"fetch", "clean", "chunk", "embed", "index"}
    outcomes = {labels["outcome"]: value for name, labels, value in told if name == "kb_refresh_pages"}
    assert outcomes["fetched"] > 3
    assert ("kb_usage_pages_total", "fetch") in {(name, labels.get("operation")) for name, labels, _ in told}
    assert not [name for name, _, _ in told if name.startswith("kb_http")], "what others asked is no tenant's to see"


def test_who_has_no_key_is_shown_nothing(http: TestClient) -> None:
    assert http.get("/metrics").status_code == 401


def test_requests_are_counted_by_route_and_not_by_path(acme: Client, http: TestClient) -> None:
    for path in ("/kbs/acme.docs", "/kbs/acme.nothing", "/nothing/here", "/nothing/there"):
        acme.get(path)
    acme("BREW", "/api/v1/kbs")
    counted = {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"])
        for family in http.app.state.metrics.collect()  # type: ignore[attr-defined]
        if family.name == "kb_http_requests"
        for sample in family.samples
    }
    assert {("GET", "/api/v1/kbs/{kb}", "200"), ("GET", "/api/v1/kbs/{kb}", "404"), ("GET", "(none)", "404")} <= counted
    assert not [route for _, route, _ in counted if "nothing" in route or "acme" in route]
    assert "BREW" not in {method for method, _, _ in counted}


def test_a_home_of_very_many_kbs_is_a_bounded_number_of_series(db: Database) -> None:
    for n in range(170):
        refreshed(db, KbKey(f"tenant-{n % 60}", f"kb-{n}"), f"run-{n}")
    series = sum(len(metric.samples) for metric in as_metrics(read_figures(db)))
    assert 170 * 7 < series < 5000


def test_figures_of_one_caller_are_not_shown_to_another(acme: Client, globex: Client) -> None:
    shown = [
        {labels["tenant"] for _, labels, _ in samples(client("GET", "/metrics").text) if "tenant" in labels}
        for client in (acme, globex, acme)
    ]
    assert shown == [{"acme"}, {"globex"}, {"acme"}]


def test_an_operators_key_sees_what_the_service_did(two_tenants: Home, http: TestClient, acme: Client) -> None:
    for _ in range(2):
        acme.get("/kbs/acme.docs/search", params={"q": "which fruit is counted"})
    acme.post("/kbs/acme.docs/answers", json={"question": "Where do apples keep for months?"})
    key, _ = create_operator_key(Database(two_tenants.settings.database_url), "tester")
    told = list(samples(Client(http, key)("GET", "/metrics").text))
    assert {"acme", "globex"} <= {labels["tenant"] for _, labels, _ in told if "tenant" in labels}
    lookups = {(labels["cache"], labels["outcome"]) for name, labels, _ in told if name == "kb_cache_lookups_total"}
    assert {("searches", "hit"), ("searches", "miss"), ("query_vectors", "miss")} <= lookups
    assert {labels["mode"] for name, labels, _ in told if name == "kb_answers_total"} == {"extractive"}
    routes = {labels["route"] for name, labels, _ in told if name == "kb_http_request_seconds_bucket"}
    assert "/api/v1/kbs/{kb}/search" in routes
