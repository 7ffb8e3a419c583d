"""The control plane on SQLite and on a real Postgres."""

from __future__ import annotations

import random
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from kb_pipeline.control.coordination import leases
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Lease
from kb_pipeline.control.kbs import catalog, versions
from kb_pipeline.control.runs import failures, refreshes
from kb_pipeline.control.runs.status import describe_kb
from kb_pipeline.errors import GateFailed, LeaseHeld, LeaseLost, NoLiveVersion, UnknownKb, UnknownVersion, UsageError
from kb_pipeline.model import KbKey, StageReport
from kb_pipeline.spec.kb_file import parse_spec

ACME, GLOBEX = KbKey("acme", "docs"), KbKey("globex", "docs")


def yaml_of(key: KbKey, delay_s: float = 1) -> str:
    source = f"{{name: site, type: web, start_urls: ['http://site.example/'], delay_s: {delay_s}}}"
    return f"tenant: {key.tenant}\nkb: {key.kb}\nsources: [{source}]\n"


def apply(db: Database, key: KbKey, delay_s: float = 1) -> str:
    yaml = yaml_of(key, delay_s)
    return catalog.apply_spec(db, parse_spec(yaml, "test"), yaml, "tester")


def publish(db: Database, key: KbKey, run_id: str) -> int:
    lease = leases.acquire_lease(db, key, run_id)
    number = versions.reserve_version(db, lease, run_id)
    manifest = {"version": number, "counts": {"documents": number, "chunks": number}, "model": {"name": "m"}}
    versions.record_verdict(db, lease, number, "candidate", manifest)
    versions.publish_version(db, lease, number)
    leases.release_lease(db, lease)
    return number


def expire(db: Database, key: KbKey) -> None:
    with db.write_all() as session:
        session.get_one(Lease, (key.tenant, key.kb)).expires_at = time.time() - 1


def test_applying_says_created_updated_or_unchanged(db: Database) -> None:
    assert [apply(db, ACME), apply(db, ACME), apply(db, ACME, delay_s=2)] == ["created", "unchanged", "updated"]
    assert catalog.get_kb(db, ACME).revision == 2
    assert catalog.get_kb(db, ACME).spec.sources[0].delay_s == 2


def race(db: Database, key: KbKey, runs: list[str]) -> tuple[list[str], list[str]]:
    """All of them go for the KB at once, and whoever gets it publishes: those that did, and those that were refused."""
    ready, tried = threading.Barrier(len(runs)), threading.Event()
    published: list[str] = []
    refused: list[str] = []

    def refresh(run_id: str) -> None:
        ready.wait()
        try:
            lease = leases.acquire_lease(db, key, run_id)
        except LeaseHeld:
            refused.append(run_id)
            return
        number = versions.reserve_version(db, lease, run_id)
        versions.record_verdict(db, lease, number, "candidate", {"version": number, "counts": {}})
        tried.wait()
        versions.publish_version(db, lease, number)
        published.append(run_id)
        leases.release_lease(db, lease)

    threads = [threading.Thread(target=refresh, args=(run_id,)) for run_id in runs]
    for thread in threads:
        thread.start()
    while len(refused) < len(runs) - 1 and any(thread.is_alive() for thread in threads):
        time.sleep(0.001)
    tried.set()
    for thread in threads:
        thread.join()
    return published, refused


def test_of_runs_that_race_for_a_kb_exactly_one_publishes(db: Database) -> None:
    apply(db, ACME)
    dice = random.Random(7)
    for number in range(1, 101):
        runs = [f"run-{number}-{rival}" for rival in range(dice.randint(2, 4))]
        published, refused = race(db, ACME, runs)
        assert (len(published), len(refused)) == (1, len(runs) - 1)
        assert versions.live_manifest(db, ACME)["version"] == number


def test_unknown_kb_is_an_error_that_names_the_remedy(db: Database) -> None:
    with pytest.raises(UnknownKb, match="kb apply FILE"):
        catalog.get_kb(db, ACME)
    with pytest.raises(UnknownKb):
        versions.live_manifest(db, ACME)


def test_a_machine_whose_clock_is_ahead_takes_nobodys_lease(
    fresh_postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = Database(fresh_postgres)
    lease = leases.acquire_lease(db, KbKey("acme", "docs"), "run-1")
    ahead = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: ahead)
    with pytest.raises(LeaseHeld, match="run run-1 is writing"):
        leases.acquire_lease(db, lease.key, "run-2")
    leases.check_lease(db, lease)
    db.dispose()


def test_a_second_owner_waits_for_the_lease(db: Database) -> None:
    first = leases.acquire_lease(db, ACME, "run-1")
    with pytest.raises(LeaseHeld, match="run run-1 is writing"):
        leases.acquire_lease(db, ACME, "run-2")
    assert leases.acquire_lease(db, ACME, "run-1").token == first.token  # the owner may come back
    assert leases.acquire_lease(db, GLOBEX, "run-2").token == 1  # another KB is free
    leases.release_lease(db, first)
    assert leases.acquire_lease(db, ACME, "run-2").token == first.token + 1


def test_a_writer_that_wakes_after_its_lease_was_taken_publishes_nothing(db: Database) -> None:
    apply(db, ACME)
    zombie = leases.acquire_lease(db, ACME, "zombie")
    number = versions.reserve_version(db, zombie, "zombie")
    expire(db, ACME)
    leases.acquire_lease(db, ACME, "heir")
    with pytest.raises(LeaseLost):
        versions.publish_version(db, zombie, number)
    with pytest.raises(NoLiveVersion):
        versions.live_manifest(db, ACME)


def test_a_released_zombie_does_not_end_the_heirs_lease(db: Database) -> None:
    zombie = leases.acquire_lease(db, ACME, "zombie")
    expire(db, ACME)
    leases.acquire_lease(db, ACME, "heir")
    leases.release_lease(db, zombie)
    lease = leases.current_lease(db, ACME)
    assert lease is not None
    assert lease.owner == "heir"


def test_of_many_racing_writers_exactly_one_gets_the_lease(db: Database) -> None:
    winners, losers, barrier = [], [], threading.Barrier(8)

    def race(number: int) -> None:
        barrier.wait()
        try:
            winners.append(leases.acquire_lease(db, ACME, f"run-{number}"))
        except LeaseHeld:
            losers.append(number)

    threads = [threading.Thread(target=race, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(winners), len(losers)) == (1, 7)


def test_held_lease_is_released_at_once_after_an_error(db: Database) -> None:
    with pytest.raises(ZeroDivisionError), leases.hold_lease(db, ACME, "run-1"):
        _ = 1 / 0
    assert leases.current_lease(db, ACME) is None


def test_a_lease_given_back_within_its_block_stays_given_back(db: Database) -> None:
    with leases.hold_lease(db, ACME, "run-1") as lease:
        leases.release_lease(db, lease)
    assert leases.current_lease(db, ACME) is None


def test_between_two_assets_of_a_run_no_other_run_slips_in(db: Database) -> None:
    with leases.hold_lease(db, ACME, "run-1"):
        pass
    with pytest.raises(LeaseHeld):
        leases.acquire_lease(db, ACME, "run-2")


def test_publishing_moves_the_pointer_and_numbers_are_never_reused(db: Database) -> None:
    apply(db, ACME)
    assert [publish(db, ACME, "run-1"), publish(db, ACME, "run-2")] == [1, 2]
    assert versions.live_manifest(db, ACME)["version"] == 2
    listed = list(versions.list_versions(db, ACME))
    assert [(row["version"], row["live"], row["status"]) for row in listed] == [
        (2, True, "published"),
        (1, False, "published"),
    ]


@pytest.mark.parametrize("status", ["held", "failed", "superseded"])
def test_a_version_that_did_not_pass_cannot_be_published(db: Database, status: str) -> None:
    apply(db, ACME)
    lease = leases.acquire_lease(db, ACME, "run-1")
    number = versions.reserve_version(db, lease, "run-1")
    versions.record_verdict(db, lease, number, status, {"version": number})
    with pytest.raises(GateFailed, match=f"version 1 is {status}"):
        versions.publish_version(db, lease, number)
    with pytest.raises(NoLiveVersion):
        versions.live_manifest(db, ACME)


def test_as_of_reads_a_version_by_number_or_time(db: Database) -> None:
    apply(db, ACME)
    publish(db, ACME, "run-1")
    between = datetime.now(UTC)
    publish(db, ACME, "run-2")
    assert versions.manifest_as_of(db, ACME, None)["version"] == 2
    assert versions.manifest_as_of(db, ACME, "1")["version"] == 1
    assert versions.manifest_as_of(db, ACME, between.isoformat())["version"] == 1
    with pytest.raises(UnknownVersion):
        versions.manifest_as_of(db, ACME, "7")
    with pytest.raises(UsageError, match="ISO time"):
        versions.manifest_as_of(db, ACME, "yesterday")


def test_tenants_do_not_see_each_other(db: Database) -> None:
    for key in (ACME, GLOBEX):
        apply(db, key)
        publish(db, key, f"run-{key.tenant}")
        refreshes.begin_refresh(db, key, f"run-{key.tenant}")
        failures.replace_failures(db, key, "fetch", [failures.FailedItem("site", str(key), "timeout", "", True)])
    assert [row["key"] for row in failures.list_failures(db, ACME)] == ["acme/docs"]
    assert [row["run_id"] for row in versions.list_versions(db, ACME)] == ["run-acme"]
    assert refreshes.get_refresh(db, ACME, "run-globex") is None
    assert versions.pending_versions(db, ACME) == []
    failures.replace_failures(db, ACME, "fetch", [])
    assert [row["key"] for row in failures.list_failures(db, GLOBEX)] == ["globex/docs"]


def test_failures_count_attempts_and_vanish_when_solved(db: Database) -> None:
    def item(key: str) -> failures.FailedItem:
        return failures.FailedItem("site", key, "http_503", "try later", recoverable=True)

    failures.replace_failures(db, ACME, "fetch", [item("/a"), item("/b")])
    first_seen = {row["key"]: row["first_seen"] for row in failures.list_failures(db, ACME)}
    failures.replace_failures(db, ACME, "fetch", [item("/b")])
    (row,) = failures.list_failures(db, ACME)
    assert (row["key"], row["attempts"], row["first_seen"]) == ("/b", 2, first_seen["/b"])
    failures.replace_failures(db, ACME, "clean", [])
    assert len(list(failures.list_failures(db, ACME))) == 1  # another stage's list is not touched


def test_status_goes_from_new_over_running_to_the_end(db: Database) -> None:
    apply(db, ACME)
    assert describe_kb(db, ACME)["status"] == "new"
    with leases.hold_lease(db, ACME, "run-1"):
        refreshes.begin_refresh(db, ACME, "run-1")
        progress = refreshes.StageProgress(db, ACME, "run-1", "fetch")
        progress(5, 10)
        described = describe_kb(db, ACME)
        assert described["status"] == "running"
        assert (described["running"]["stage"], described["running"]["done"]) == ("fetch", 5)
        refreshes.finish_stage(db, ACME, "run-1", StageReport("fetch", entered=10, passed=10), "run-1/fetch/1")
    refreshes.end_refresh(db, ACME, "run-1", "failed", message="no network")
    described = describe_kb(db, ACME)
    assert (described["status"], described["last_run"]["message"]) == ("failed", "no network")
    assert described["last_run"]["stages"]["fetch"]["out"] == 10


def test_a_run_without_a_lease_and_without_an_end_is_interrupted(db: Database) -> None:
    apply(db, ACME)
    refreshes.begin_refresh(db, ACME, "run-1")
    assert describe_kb(db, ACME)["status"] == "interrupted"


def test_the_word_of_a_lost_worker_does_not_replace_the_refreshs_own_end(db: Database) -> None:
    refreshes.begin_refresh(db, ACME, "run-1")
    refreshes.end_refresh(db, ACME, "run-1", "held", 1, "shrunk")
    refreshes.end_refresh(db, ACME, "run-1", "failed", message="Dagster says the run failed")
    row = refreshes.get_refresh(db, ACME, "run-1")
    assert row is not None
    assert (row.status, row.message) == ("held", "shrunk")


def test_times_come_back_aware(db: Database) -> None:
    apply(db, ACME)
    created = catalog.get_kb(db, ACME).created_at
    assert created.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - created) < timedelta(minutes=1)
