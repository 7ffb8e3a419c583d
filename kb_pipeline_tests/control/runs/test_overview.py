"""How KBs stand, many at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from kb_pipeline.control.coordination import leases
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Kb
from kb_pipeline.control.kbs import catalog, versions
from kb_pipeline.control.runs import failures, refreshes
from kb_pipeline.control.runs.overview import KbOverview, list_overviews
from kb_pipeline.control.runs.requests import request_run
from kb_pipeline.control.tenancy.tenants import set_status
from kb_pipeline.model import KbKey
from kb_pipeline.spec.kb_file import parse_spec
from kb_pipeline_tests.control.planes import ACME, GLOBEX, apply, publish, yaml_of
from kb_pipeline_tests.store.manifests import manifest_of

WIKI = KbKey("acme", "wiki")


def _of(db: Database, key: KbKey) -> KbOverview:
    (found,) = (each for each in list_overviews(db) if each.kb == key)
    return found


def test_kbs_of_one_tenant_or_of_all_are_listed_by_key(db: Database) -> None:
    for key in (WIKI, GLOBEX, ACME):
        apply(db, key)
    assert [each.kb for each in list_overviews(db)] == [ACME, WIKI, GLOBEX]
    assert [each.kb for each in list_overviews(db, "acme")] == [ACME, WIKI]
    assert list_overviews(db, "nobody") == []


def test_a_new_kb_has_nothing_yet(db: Database) -> None:
    apply(db, ACME)
    found = _of(db, ACME)
    assert found == KbOverview(ACME, "new", None, 0, 0, None, 0, None, None, None, found.created_at)
    assert found.created_at <= datetime.now(UTC)


def test_a_published_kb_tells_version_counts_failures_and_its_newest_refresh(db: Database) -> None:
    apply(db, ACME)
    for run in ("run-1", "run-2"):
        refreshes.begin_refresh(db, ACME, run)
        publish(db, ACME, run)
        refreshes.end_refresh(db, ACME, run, "ready" if run == "run-1" else "unchanged", 1)
    failed = [failures.FailedItem("site", f"https://a.example/{n}", "http_503", "", True) for n in range(3)]
    failures.replace_failures(db, ACME, "fetch", failed)
    apply(db, WIKI)
    found = _of(db, ACME)
    assert (found.status, found.live_version) == ("unchanged", 2)
    assert (found.documents, found.chunks, found.failures) == (2, 6, 3)
    last = refreshes.latest_refresh(db, ACME)
    assert last is not None
    assert found.last_refresh_at == last.ended_at
    assert _of(db, WIKI).status == "new"


def test_a_held_version_is_named(db: Database) -> None:
    apply(db, ACME)
    refreshes.begin_refresh(db, ACME, "run-1")
    lease = leases.acquire_lease(db, ACME, "run-1")
    for _ in range(2):
        number = versions.reserve_version(db, lease, "run-1")
        versions.record_verdict(db, lease, number, "held", manifest_of(ACME, number))
    refreshes.end_refresh(db, ACME, "run-1", "held", 2)
    assert (_of(db, ACME).status, _of(db, ACME).held_version, _of(db, ACME).live_version) == ("held", 2, None)


def test_states_of_running_interrupted_queued_and_inactive(db: Database) -> None:
    apply(db, ACME)
    refreshes.begin_refresh(db, ACME, "run-1")
    assert _of(db, ACME).status == "interrupted"
    with leases.hold_lease(db, ACME, "run-1"):
        assert _of(db, ACME).status == "running"
        request_run(db, ACME, [], "mary")
        assert _of(db, ACME).status == "running"
    refreshes.end_refresh(db, ACME, "run-1", "failed")
    assert _of(db, ACME).status == "queued"
    set_status(db, "acme", "suspended", "unpaid", "tester")
    assert _of(db, ACME).status == "suspended"


def test_the_next_refresh_follows_the_schedule_the_quota_and_the_tenant(db: Database) -> None:
    yaml = yaml_of(ACME) + "schedule: {cron: '0 3 * * *', timezone: Europe/Berlin}\n"
    catalog.apply_spec(db, parse_spec(yaml, "test"), yaml, "tester")
    following = _of(db, ACME).next_refresh_at
    assert following is not None
    assert timedelta(0) < following - datetime.now(UTC) <= timedelta(days=1, hours=1)
    assert following.hour in (1, 2)  # three in Berlin
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=5)
    with db.write("acme") as session:
        session.get_one(Kb, ("acme", "docs")).snoozed_until = until
    assert _of(db, ACME).next_refresh_at == until
    set_status(db, "acme", "suspended", "unpaid", "tester")
    assert _of(db, ACME).next_refresh_at is None
