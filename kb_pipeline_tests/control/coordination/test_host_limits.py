"""Permits for hosts that runs in several processes share, on both databases."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from benchmarks.politeness import SHARE_TOLERANCE, measure
from kb_pipeline.control.coordination.host_limits import SharedHostScheduler, delete_idle_hosts
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import HostClient, HostState
from kb_pipeline.host_scheduler import Report


def _hosts(db: Database) -> set[str]:
    with db.read_all() as session:
        return {state.host for state in session.query(HostState)}


def test_runs_of_several_tenants_keep_one_gap_and_share_it_fairly(db: Database, tmp_path: Path) -> None:
    url = db.url.render_as_string(hide_password=False)
    found = measure(url, tmp_path, requests=60, delay_s=0.1)
    assert found["too_short"] == 0
    assert found["farthest_from_fair"] <= SHARE_TOLERANCE


def test_a_new_run_waits_for_the_request_of_one_before(db: Database) -> None:
    first, second = SharedHostScheduler(db, "acme", "run-1"), SharedHostScheduler(db, "beta", "run-2")
    waiting = {"a.example": Report(5.0, waiting=True)}
    assert first.exchange(waiting)["a.example"].slot_s
    assert not second.exchange(waiting)["a.example"].slot_s
    first.exchange({"a.example": Report(5.0, responded_ago_s=1.0, responses=1)})
    assert second.exchange(waiting)["a.example"].wait_s == pytest.approx(4.0, abs=0.5)


def test_closing_frees_the_slot_as_if_its_request_had_just_been_sent(db: Database) -> None:
    first, second = SharedHostScheduler(db, "acme", "run-1"), SharedHostScheduler(db, "beta", "run-2")
    waiting = {"a.example": Report(5.0, waiting=True)}
    first.exchange(waiting)
    first.close()
    permit = second.exchange(waiting)["a.example"]
    assert permit.slot_s
    assert permit.wait_s == pytest.approx(5.0, abs=0.5)
    with db.read_all() as session:
        assert [client.client_id for client in session.query(HostClient)] == ["run-2"]


def test_hosts_met_by_many_runs_at_once_are_no_conflict(db: Database) -> None:
    hosts = [f"h{number}.example" for number in range(40)]
    granted: list[int] = []

    def meet(run: int) -> None:
        scheduler = SharedHostScheduler(db, "acme", f"run-{run}")
        permits = scheduler.exchange({host: Report(1.0, waiting=True) for host in hosts})
        granted.append(sum(permit.slot_s > 0 for permit in permits.values()))

    threads = [threading.Thread(target=meet, args=(run,)) for run in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(granted) == len(hosts), "each host has one holder"


def test_thousands_of_hosts_are_reported_in_one_exchange(db: Database) -> None:
    scheduler = SharedHostScheduler(db, "acme", "run")
    permits = scheduler.exchange({f"h{number}.example": Report(1.0, waiting=True) for number in range(2000)})
    assert len(permits) == 2000
    assert all(permit.slot_s for permit in permits.values())
    scheduler.close()


def test_idle_hosts_are_deleted(db: Database) -> None:
    SharedHostScheduler(db, "acme", "run").exchange(
        {"a.example": Report(1.0), "b.example": Report(1.0, responded_ago_s=0.0)}
    )
    delete_idle_hosts(db)
    assert _hosts(db) == {"b.example"}
