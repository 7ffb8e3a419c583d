"""One writer per KB, whoever races, sleeps or dies."""

from __future__ import annotations

import threading
import time

import pytest

from kb_pipeline.control.coordination import leases
from kb_pipeline.control.db.engine import Database
from kb_pipeline.errors import LeaseHeld
from kb_pipeline.model import KbKey
from kb_pipeline_tests.control.planes import ACME, GLOBEX, expire


def test_a_second_owner_waits_for_the_lease(db: Database) -> None:
    first = leases.acquire_lease(db, ACME, "run-1")
    with pytest.raises(LeaseHeld, match="run run-1 is writing"):
        leases.acquire_lease(db, ACME, "run-2")
    assert leases.acquire_lease(db, ACME, "run-1").token == first.token  # the owner may come back
    assert leases.acquire_lease(db, GLOBEX, "run-2").token == 1  # another KB is free
    leases.release_lease(db, first)
    assert leases.acquire_lease(db, ACME, "run-2").token == first.token + 1


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
