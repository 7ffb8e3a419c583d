"""The live pointer going back and forth, and what readers of another time see."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kb_pipeline.control.coordination import leases
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs import versions
from kb_pipeline.errors import LeaseLost, UnknownVersion, UsageError
from kb_pipeline_tests.control.planes import ACME, GLOBEX, apply, expire, publish
from kb_pipeline_tests.store.manifests import manifest_of


def statuses(db: Database) -> dict[int, str]:
    return {row.version: row.status for row in versions.list_versions(db, ACME)}


def roll_back(db: Database, number: int) -> int:
    lease = leases.acquire_lease(db, ACME, f"rollback-{number}")
    try:
        return versions.roll_back(db, lease, number, "tester")
    finally:
        leases.release_lease(db, lease)


@pytest.fixture
def published(db: Database) -> Database:
    """Three versions, the third one live, and another tenant's."""
    for key in (ACME, GLOBEX):
        apply(db, key)
    for run in ("run-1", "run-2", "run-3"):
        publish(db, ACME, run)
    publish(db, GLOBEX, "run-4")
    return db


def test_rolling_back_moves_the_pointer_and_marks_what_is_newer(published: Database) -> None:
    assert roll_back(published, 1) == 3
    assert versions.live_manifest(published, ACME).version == 1
    assert statuses(published) == {1: "published", 2: "rolled_back", 3: "rolled_back"}
    assert [m.version for m in versions.rolled_back_manifests(published, ACME)] == [2, 3]
    assert versions.live_manifest(published, GLOBEX).version == 1


def test_what_was_rolled_back_can_still_be_searched_and_made_live_again(published: Database) -> None:
    roll_back(published, 1)
    assert versions.manifest_as_of(published, ACME, "3").version == 3
    assert roll_back(published, 2) == 1
    assert statuses(published) == {1: "published", 2: "published", 3: "rolled_back"}
    assert [m.version for m in versions.rolled_back_manifests(published, ACME)] == [3]


def test_a_time_finds_the_version_that_was_live_then_across_rollbacks(published: Database) -> None:
    before = datetime.now(UTC)
    roll_back(published, 1)
    between = datetime.now(UTC)
    publish(published, ACME, "run-5")
    after = datetime.now(UTC)
    live = [versions.manifest_as_of(published, ACME, time.isoformat()).version for time in (before, between, after)]
    assert live == [3, 1, 4]
    with pytest.raises(UnknownVersion):
        versions.manifest_as_of(published, ACME, "2001-01-01")


def test_what_was_rolled_back_before_a_newer_version_is_history(published: Database) -> None:
    roll_back(published, 1)
    publish(published, ACME, "run-5")
    assert versions.rolled_back_manifests(published, ACME) == []
    assert statuses(published)[3] == "rolled_back"


@pytest.mark.parametrize(("number", "error"), [(3, UsageError), (4, UnknownVersion)])
def test_there_is_no_way_back_to_the_live_version_or_to_none(
    published: Database, number: int, error: type[Exception]
) -> None:
    with pytest.raises(error):
        roll_back(published, number)
    assert versions.live_manifest(published, ACME).version == 3


@pytest.mark.parametrize("status", ["held", "failed", "superseded", "pruned"])
def test_only_a_version_whose_data_is_kept_can_become_live_again(published: Database, status: str) -> None:
    lease = leases.acquire_lease(published, ACME, "run-5")
    number = versions.reserve_version(published, lease, "run-5")
    versions.record_verdict(published, lease, number, status, manifest_of(ACME, number))
    with pytest.raises(UnknownVersion):
        versions.roll_back(published, lease, number, "tester")


def test_a_late_writer_rolls_nothing_back(published: Database) -> None:
    late = leases.acquire_lease(published, ACME, "rollback-late")
    expire(published, ACME)
    leases.acquire_lease(published, ACME, "run-5")
    with pytest.raises(LeaseLost):
        versions.roll_back(published, late, 1, "tester")
    assert versions.live_manifest(published, ACME).version == 3


def test_a_held_version_is_published_only_where_it_is_asked_for_as_such(published: Database) -> None:
    lease = leases.acquire_lease(published, ACME, "run-5")
    number = versions.reserve_version(published, lease, "run-5")
    versions.record_verdict(published, lease, number, "held", manifest_of(ACME, number))
    versions.publish_version(published, lease, number, "held")
    assert versions.live_manifest(published, ACME).version == number


def test_a_writer_is_stopped_once_its_lease_ran_out_or_was_taken(published: Database) -> None:
    lease = leases.acquire_lease(published, ACME, "run-5")
    leases.check_lease(published, lease)
    expire(published, ACME)
    with pytest.raises(LeaseLost):
        leases.check_lease(published, lease)
    leases.acquire_lease(published, ACME, "run-6")
    with pytest.raises(LeaseLost):
        leases.check_lease(published, lease)
