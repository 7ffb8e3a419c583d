"""A job keeps its id through every run that it takes, and its events are numbered without a gap."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from kb_pipeline.control.db import schema_revision
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Job
from kb_pipeline.control.kbs.catalog import list_unstarted_kbs
from kb_pipeline.control.runs import refreshes
from kb_pipeline.control.runs.heartbeats import give_up
from kb_pipeline.control.runs.job_events import list_events, list_log, percent_of, progress_interval_s
from kb_pipeline.control.runs.jobs import (
    JobRecord,
    ask_to_cancel,
    forget_old_jobs,
    get_job,
    list_jobs,
    list_open_ended,
    newest_job,
)
from kb_pipeline.control.runs.refreshes import Launch, StageProgress
from kb_pipeline.control.runs.requests import request_run, withdraw
from kb_pipeline.errors import JobWithdrawn, UnknownJob, UsageError
from kb_pipeline.model import KbKey, StageReport
from kb_pipeline_tests.control.planes import ACME, GLOBEX, apply


def begin(db: Database, run_id: str, job_id: str | None = None, key: KbKey = ACME) -> None:
    refreshes.begin_refresh(db, key, run_id, launch=Launch(job_id, "tester", ("retry",)))


def events(db: Database, job_id: str, key: KbKey = ACME) -> list[dict[str, Any]]:
    told = [each.as_json() for each in list_events(db, key, job_id)]
    assert [each["id"] for each in told] == list(range(1, len(told) + 1))
    percents = [each["percent"] for each in told]
    assert percents == sorted(percents)
    return told


def test_a_job_is_told_from_the_request_to_the_end_under_one_id(db: Database) -> None:
    apply(db, ACME)
    asked = request_run(db, ACME, ["force"], "mary")
    job = get_job(db, "acme", asked.id)
    assert (job.state, job.options, job.run_id, job.has_ended) == ("queued", ("force",), None, False)
    begin(db, "run-1", asked.id)
    progress = StageProgress(db, ACME, "run-1", "fetch")
    progress(3, 10)
    running = get_job(db, "acme", asked.id)
    assert (running.state, running.stage, running.stats.pages_scraped) == ("running", "fetch", 3)
    report = StageReport("fetch", entered=10, passed=8)
    report.failed["http_500"] = 2
    refreshes.finish_stage(db, ACME, "run-1", report, "unit")
    refreshes.end_refresh(db, ACME, "run-1", "ready_with_warnings", 4, "two pages are missing")
    ended = get_job(db, "acme", asked.id)
    assert (ended.state, ended.version, ended.percent, ended.eta_s) == ("ready_with_warnings", 4, 100.0, None)
    assert ended.warnings == ("fetch: 2 failed (http_500 2)", "two pages are missing")
    assert ended.stats.as_json() | {"pages_discovered": 10, "pages_scraped": 8, "pages_failed": 2} == (
        ended.stats.as_json()
    )
    types = [each["type"] for each in events(db, asked.id)]
    assert types == ["queued", "started", "stage_started", "stage_finished", "warning", "ended"]
    assert [each.id for each in list_log(db, ACME, asked.id)] == [1, 2, 3, 4, 5, 6]
    assert newest_job(db, ACME) == ended


def test_a_run_that_nobody_asked_for_is_a_job_of_its_own(db: Database) -> None:
    apply(db, ACME)
    begin(db, "run-1")
    refreshes.end_refresh(db, ACME, "run-1", "unchanged", 1)
    job = get_job(db, "acme", "run-1")
    assert (job.state, job.requested_by, job.options) == ("unchanged", "tester", ("retry",))
    refreshes.end_refresh(db, ACME, "run-1", "unchanged", 1)  # said twice, told once
    assert [each["type"] for each in events(db, "run-1")] == ["started", "ended"]


def test_a_lost_run_that_is_tried_again_leaves_its_job_open_for_the_next_one(db: Database) -> None:
    apply(db, ACME)
    asked = request_run(db, ACME, [], "mary").id
    begin(db, "run-1", asked)
    assert give_up(db, "run-1", None, "its process is gone", is_tried_again=True)
    job = get_job(db, "acme", asked)
    assert (job.state, job.has_ended) == ("queued", False)
    assert list_open_ended(db) == [(ACME, "run-1")]
    begin(db, "run-2", asked)
    refreshes.end_refresh(db, ACME, "run-2", "ready", 1)
    assert get_job(db, "acme", asked).run_id == "run-2"
    types = [each["type"] for each in events(db, asked)]
    assert types == ["queued", "started", "interrupted", "started", "ended"]
    assert list_open_ended(db) == []


def test_a_run_of_which_nothing_more_comes_ends_its_job_also_if_it_never_began(db: Database) -> None:
    apply(db, ACME)
    asked = request_run(db, ACME, [], "mary").id
    with db.write("acme") as session:
        session.get_one(Job, ("acme", "docs", asked)).run_id = "run-1"
    refreshes.end_lost_refresh(db, ACME, "run-1", "failed", "the code location is gone")
    job = get_job(db, "acme", asked)
    assert (job.state, job.message) == ("failed", "the code location is gone")


def test_a_job_that_was_cancelled_before_it_began_does_not_begin(db: Database) -> None:
    apply(db, ACME)
    asked = request_run(db, ACME, [], "mary").id
    assert withdraw(db, ACME, asked) == 1
    with pytest.raises(JobWithdrawn):
        begin(db, "run-1", asked)
    assert get_job(db, "acme", asked).state == "cancelled"
    assert [each["type"] for each in events(db, asked)] == ["queued", "ended"]
    assert list(list_unstarted_kbs(db)) == [], "nor is it started because nothing has run yet"


def test_a_run_that_is_told_to_end_is_told_once(db: Database) -> None:
    apply(db, ACME)
    begin(db, "run-1")
    assert [ask_to_cancel(db, ACME, "run-1", "mary") for _ in range(3)] == [True, False, False]
    assert get_job(db, "acme", "run-1").is_cancelling
    refreshes.cancel_refresh(db, ACME, "run-1", datetime.now(UTC))
    assert not ask_to_cancel(db, ACME, "run-1", "mary")
    assert [each["type"] for each in events(db, "run-1")] == ["started", "cancelling", "ended"]


def test_a_run_that_is_begun_again_by_hand_is_another_job(db: Database) -> None:
    apply(db, ACME)
    asked = request_run(db, ACME, [], "mary").id
    begin(db, "run-1", asked)
    refreshes.end_refresh(db, ACME, "run-1", "ready", 1)
    begin(db, "run-2", asked)
    assert get_job(db, "acme", asked).state == "ready"
    assert get_job(db, "acme", "run-2").state == "running"


def test_many_who_write_at_once_leave_no_gap(db: Database) -> None:
    apply(db, ACME)
    begin(db, "run-1")

    def work() -> None:
        for stage in ("fetch", "clean", "chunk"):
            StageProgress(db, ACME, "run-1", stage)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(events(db, "run-1")) == 1 + 6 * 3


def test_progress_is_told_ever_less_often_and_so_never_without_bound() -> None:
    elapsed, told = 0.0, 0
    while elapsed < 7 * 24 * 3600:
        elapsed, told = elapsed + progress_interval_s(elapsed), told + 1
    assert told < 1000
    assert progress_interval_s(10) == 1
    assert [percent_of(*each) for each in (("fetch", 0, None), ("fetch", 5, 10), ("index", 1, 1))] == [0, 25, 100]


def test_jobs_are_listed_by_age_a_page_at_a_time_and_never_another_tenants(db: Database) -> None:
    for key in (ACME, GLOBEX):
        apply(db, key)
    for number in range(7):
        begin(db, f"run-{number}")
        refreshes.end_refresh(db, ACME, f"run-{number}", "failed" if number % 2 else "ready", number)
    begin(db, "theirs", key=GLOBEX)
    pages: list[list[JobRecord]] = [list_jobs(db, "acme", limit=3)]
    while len(pages[-1]) == 3:
        last = pages[-1][-1]
        pages.append(list_jobs(db, "acme", before=(last.requested_at, last.id), limit=3))
    assert [job.id for page in pages for job in page] == [f"run-{number}" for number in reversed(range(7))]
    assert [job.version for job in list_jobs(db, "acme", states=["failed"])] == [5, 3, 1]
    assert [job.id for job in list_jobs(db, None, states=["running"])] == ["theirs"]
    assert list_jobs(db, "acme", kb=KbKey("acme", "other")) == []
    for problem in ({"states": ["nonsense"]}, {"limit": 0}):
        with pytest.raises(UsageError):
            list_jobs(db, "acme", **problem)
    with pytest.raises(UnknownJob):
        get_job(db, "acme", "theirs")


def test_old_jobs_are_forgotten_with_their_events_but_the_newest_of_a_kb(db: Database) -> None:
    apply(db, ACME)
    for run in ("run-1", "run-2"):
        begin(db, run)
        refreshes.end_refresh(db, ACME, run, "ready", 1)
    forget_old_jobs(db)
    assert len(list_jobs(db, "acme")) == 2
    forget_old_jobs(db, timedelta())
    assert [job.id for job in list_jobs(db, "acme")] == ["run-2"]
    assert list_events(db, ACME, "run-1") == []
    assert len(events(db, "run-2")) == 2


def test_requests_and_runs_of_an_earlier_release_are_jobs(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'control.db'}"
    engine = create_engine(url)
    schema_revision.upgrade(engine, "0007")
    time_ = "2026-01-01 00:00:00.000000"
    run = "INSERT INTO refreshes (tenant, kb, run_id, status, stages, done, started_at, ended_at) VALUES "
    asked = "INSERT INTO run_requests (tenant, kb, id, wishes, requested_by, requested_at, run_id) VALUES "
    with engine.begin() as connection:
        connection.execute(text(f"{run} ('acme', 'docs', 'run-1', 'ready', '{{}}', 0, '{time_}', '{time_}')"))
        connection.execute(text(f"{run} ('acme', 'docs', 'run-2', 'failed', '{{}}', 0, '{time_}', '{time_}')"))
        connection.execute(text(f"{asked} ('acme', 'docs', 'asked-1', 'force', 'mary', '{time_}', 'run-1')"))
        connection.execute(text(f"{asked} ('acme', 'docs', 'asked-2', '', 'mary', '{time_}', NULL)"))
    engine.dispose()
    db = Database(url)
    states = {job.id: (job.state, job.run_id) for job in list_jobs(db, "acme")}
    assert states == {"asked-1": ("ready", "run-1"), "run-2": ("failed", "run-2"), "asked-2": ("queued", None)}
    db.dispose()
