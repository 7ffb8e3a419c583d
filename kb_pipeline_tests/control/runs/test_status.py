"""How a KB stands, from its first day to its last refresh."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kb_pipeline.control.coordination import leases
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.runs import refreshes
from kb_pipeline.control.runs.requests import request_run
from kb_pipeline.control.runs.status import describe_kb
from kb_pipeline.model import StageReport
from kb_pipeline_tests.control.planes import ACME, apply, publish


def test_status_goes_from_new_over_running_to_the_end(db: Database) -> None:
    apply(db, ACME)
    assert describe_kb(db, ACME).status == "new"
    with leases.hold_lease(db, ACME, "run-1"):
        refreshes.begin_refresh(db, ACME, "run-1")
        progress = refreshes.StageProgress(db, ACME, "run-1", "fetch")
        progress(5, 10)
        described = describe_kb(db, ACME)
        assert described.status == "running"
        assert described.running is not None
        assert (described.running.stage, described.running.done) == ("fetch", 5)
        refreshes.finish_stage(db, ACME, "run-1", StageReport("fetch", entered=10, passed=10), "run-1/fetch/1")
    refreshes.end_refresh(db, ACME, "run-1", "failed", message="no network")
    described = describe_kb(db, ACME)
    assert described.last_run is not None
    assert (described.status, described.last_run.message) == ("failed", "no network")
    assert described.last_run.stages["fetch"]["out"] == 10


def test_a_run_without_a_lease_and_without_an_end_is_interrupted(db: Database) -> None:
    apply(db, ACME)
    refreshes.begin_refresh(db, ACME, "run-1")
    assert describe_kb(db, ACME).status == "interrupted"


def test_a_status_prints_as_it_always_did(db: Database) -> None:
    apply(db, ACME)
    publish(db, ACME, "run-1")
    refreshes.begin_refresh(db, ACME, "run-2")
    with leases.hold_lease(db, ACME, "run-2"):
        progress = refreshes.StageProgress(db, ACME, "run-2", "embed")
        progress(10, 10)
        asked = request_run(db, ACME, ["retry", "force"], "mary")
        described = describe_kb(db, ACME)
    assert described.last_run is not None
    assert described.as_json() == {
        "kb": "acme/docs",
        "status": "running",
        "live_version": 1,
        "documents": 1,
        "chunks": 3,
        "languages": {"en": 1},
        "model": "by-hand",
        "running": {"stage": "embed", "done": 10, "total": 10, "eta_s": 0.0},
        "requested": [
            {
                "request": asked.id,
                "wishes": ["force", "retry"],
                "requested_by": "mary",
                "requested_at": asked.requested_at.isoformat(),
                "run_id": None,
            }
        ],
        "last_run": {
            "run_id": "run-2",
            "status": "running",
            "version": None,
            "message": None,
            "started_at": described.last_run.started_at.isoformat(),
            "ended_at": None,
            "stages": {},
        },
        "account": None,
        "held_version": None,
        "held_because": None,
        "failures": 0,
        "schedule": None,
    }


def test_a_new_kb_has_no_version_no_run_and_no_progress(db: Database) -> None:
    apply(db, ACME)
    described = describe_kb(db, ACME)
    assert (described.kb, described.live_version, described.last_run, described.running) == (ACME, None, None, None)
    assert (described.documents, described.chunks, described.requested) == (0, 0, ())
    assert described.as_json()["last_run"] is None


@pytest.mark.parametrize(("done", "total", "is_known"), [(0, 10, False), (5, None, False), (5, 10, True)])
def test_the_time_left_is_told_once_there_is_a_pace(done: int, total: int | None, is_known: bool) -> None:
    started = datetime.now(UTC) - timedelta(seconds=60)
    row = refreshes.RefreshRecord(
        "run-1", "running", None, None, started, None, {}, stage="embed", done=done, total=total,
        stage_started_at=started,
    )  # fmt: skip
    assert row.progress is not None
    assert (row.progress.eta_s is not None) == is_known
    assert replace(row, status="ready").progress is None
