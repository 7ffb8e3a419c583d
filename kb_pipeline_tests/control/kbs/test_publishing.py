"""The live pointer goes forth: what may be published, by whom, and how it is read at another time."""

from __future__ import annotations

import random
import threading
import time
from datetime import UTC, datetime

import pytest

from kb_pipeline.control.coordination import leases
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs import versions
from kb_pipeline.errors import GateFailed, LeaseHeld, LeaseLost, NoLiveVersion, UnknownVersion, UsageError
from kb_pipeline.model import KbKey
from kb_pipeline_tests.control.planes import ACME, apply, expire, publish
from kb_pipeline_tests.store.manifests import manifest_of


def test_publishing_moves_the_pointer_and_numbers_are_never_reused(db: Database) -> None:
    apply(db, ACME)
    assert [publish(db, ACME, "run-1"), publish(db, ACME, "run-2")] == [1, 2]
    assert versions.live_manifest(db, ACME).version == 2
    listed = list(versions.list_versions(db, ACME))
    assert [(row.version, row.live, row.status) for row in listed] == [
        (2, True, "published"),
        (1, False, "published"),
    ]


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
        versions.record_verdict(db, lease, number, "candidate", manifest_of(key, number))
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
        assert versions.live_manifest(db, ACME).version == number


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


@pytest.mark.parametrize("status", ["held", "failed", "superseded"])
def test_a_version_that_did_not_pass_cannot_be_published(db: Database, status: str) -> None:
    apply(db, ACME)
    lease = leases.acquire_lease(db, ACME, "run-1")
    number = versions.reserve_version(db, lease, "run-1")
    versions.record_verdict(db, lease, number, status, manifest_of(ACME, number))
    with pytest.raises(GateFailed, match=f"version 1 is {status}"):
        versions.publish_version(db, lease, number)
    with pytest.raises(NoLiveVersion):
        versions.live_manifest(db, ACME)


def test_as_of_reads_a_version_by_number_or_time(db: Database) -> None:
    apply(db, ACME)
    publish(db, ACME, "run-1")
    between = datetime.now(UTC)
    publish(db, ACME, "run-2")
    assert versions.manifest_as_of(db, ACME, None).version == 2
    assert versions.manifest_as_of(db, ACME, "1").version == 1
    assert versions.manifest_as_of(db, ACME, between.isoformat()).version == 1
    with pytest.raises(UnknownVersion):
        versions.manifest_as_of(db, ACME, "7")
    with pytest.raises(UsageError, match="ISO time"):
        versions.manifest_as_of(db, ACME, "yesterday")


def test_a_version_prints_its_fields_in_order(db: Database) -> None:
    apply(db, ACME)
    publish(db, ACME, "run-1")
    (row,) = versions.list_versions(db, ACME)
    assert list(row.as_json().items()) == [
        ("version", 1),
        ("live", True),
        ("status", "published"),
        ("created_at", row.created_at.isoformat()),
        ("documents", 1),
        ("chunks", 3),
        ("model", "by-hand"),
        ("scores", {}),
        ("run_id", "run-1"),
    ]


def test_a_version_that_is_being_built_has_no_counts_yet(db: Database) -> None:
    apply(db, ACME)
    versions.reserve_version(db, leases.acquire_lease(db, ACME, "run-1"), "run-1")
    (row,) = versions.list_versions(db, ACME)
    assert (row.status, row.documents, row.chunks, row.model) == ("building", None, None, None)
