"""Runs of dead workers are ended, those of living ones are not: real instances, real processes, real kills."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dagster as dg
import pytest

from benchmarks.liveness import run_trial
from kb_pipeline.control.coordination import leases
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Heartbeat
from kb_pipeline.control.kbs.catalog import apply_spec
from kb_pipeline.control.runs import refreshes
from kb_pipeline.control.runs.heartbeats import SILENT_S, beating, get_heartbeat, give_up, judge, list_heartbeats
from kb_pipeline.definitions import defs
from kb_pipeline.defs.health import check_runs
from kb_pipeline.defs.instance import open_instance
from kb_pipeline.defs.partitions import add_partition, tags_of
from kb_pipeline.defs.reaper import list_workers, reap, reap_dead_runs
from kb_pipeline.defs.resources import open_database, refuse_if_ended
from kb_pipeline.errors import LeaseLost, Unhealthy
from kb_pipeline.model import KbKey
from kb_pipeline.settings import load_settings
from kb_pipeline.spec.kb_file import parse_spec
from kb_pipeline_tests.kb import Kb

pytestmark = pytest.mark.upgrade("dagster")

KEY = KbKey("acme", "docs")
ELSEWHERE = "another-boot/4026531836"
FAILED, CANCELED, STARTED = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.STARTED


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with open_instance(load_settings()) as instance:
        yield instance


@pytest.fixture
def db(home: Path) -> Database:
    return open_database()


@pytest.fixture
def sleepy_site() -> Iterator[str]:
    """Serve a site that takes half a minute for every response, so that a test can kill its crawl."""
    closing = threading.Event()

    class Sleepy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            closing.wait(30)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Sleepy)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    closing.set()
    server.shutdown()
    server.server_close()


def apply(url: str = "http://site.example/") -> None:
    source = f"{{name: site, type: web, start_urls: ['{url}'], delay_s: 0, sitemap: 'off'}}"
    yaml = f"tenant: acme\nkb: docs\nsources: [{source}]\nembedding: {{model: all-MiniLM-L6-v2}}\n"
    apply_spec(open_database(), parse_spec(yaml, "test"), yaml, "tester")


def start_run(instance: dg.DagsterInstance) -> dg.DagsterRun:
    """Create a run that Dagster believes to be executing, with a lease, a refresh and a pool slot."""
    add_partition(instance, KEY)
    job = defs.resolve_job_def("refresh_kb")
    run = instance.create_run_for_job(job, tags={"dagster/partition": str(KEY), **tags_of(str(KEY))})
    started = dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, run.job_name)
    instance.report_dagster_event(started, run.run_id)
    leases.acquire_lease(open_database(), KEY, run.run_id)
    refreshes.begin_refresh(open_database(), KEY, run.run_id)
    instance.event_log_storage.initialize_concurrency_limit_to_default("crawl")
    instance.event_log_storage.claim_concurrency_slot("crawl", run.run_id, "raw_documents")
    return run


def beat_from(machine: str, run: dg.DagsterRun, seconds_ago: float) -> None:
    with open_database().write_all() as session:
        beat = Heartbeat(run_id=run.run_id, machine=machine, process="1/1", beat_at=time.time() - seconds_ago)
        session.merge(beat)


def status_of(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run
    return run.status


def claimed(instance: dg.DagsterInstance) -> list[str]:
    return [slot.run_id for slot in instance.event_log_storage.get_concurrency_info("crawl").claimed_slots]


def assert_untouched(instance: dg.DagsterInstance, run_id: str) -> None:
    lease, refresh = leases.current_lease(open_database(), KEY), refreshes.get_refresh(open_database(), KEY, run_id)
    assert lease
    assert refresh
    assert (status_of(instance, run_id), lease.owner, refresh.status) == (STARTED, run_id, "running")


def assert_freed(instance: dg.DagsterInstance, run_id: str, status: dg.DagsterRunStatus = FAILED) -> None:
    assert status_of(instance, run_id) == status
    assert leases.current_lease(open_database(), KEY) is None
    refresh = refreshes.get_refresh(open_database(), KEY, run_id)
    assert refresh
    assert refresh.status == ("cancelled" if status == CANCELED else "failed")
    assert re.search("dead|died", str(refresh.message))
    assert claimed(instance) == []
    assert list_heartbeats(open_database()) == []


def wait_until(is_so: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def building(kb: Kb, db: Database) -> Iterator[tuple[subprocess.Popen[bytes], Heartbeat]]:
    """`kb build` in a process of its own, in the middle of its crawl; and its worker."""
    before = {beat.run_id for beat in list_heartbeats(db)}
    command = [sys.executable, "-m", "kb_pipeline", "build", str(KEY), "--json"]
    process = subprocess.Popen(command, cwd=kb.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(
            lambda: (row := refreshes.latest_refresh(db, KEY)) and row.stage == "fetch" and row.run_id not in before
        )
        yield process, next(beat for beat in list_heartbeats(db) if beat.run_id not in before)
    finally:
        process.kill()
        process.wait()


def pid_of(worker: Heartbeat) -> int:
    return int(worker.process.partition("/")[0])


def test_a_build_is_left_alone_while_stopped_and_ended_once_killed_by_a_daemon_that_comes_later(
    kb: Kb, instance: dg.DagsterInstance, db: Database, sleepy_site: str
) -> None:
    apply(sleepy_site)
    with building(kb, db) as (process, worker):
        os.kill(pid_of(worker), signal.SIGSTOP)  # as slow as can be, and alive
        for _ in range(2):
            assert reap(instance, db, {worker.run_id: worker.beat_at}, silent_after_s=0).ended == []
        assert_untouched(instance, worker.run_id)
        assert claimed(instance) == [worker.run_id]
        os.kill(pid_of(worker), signal.SIGKILL)
        process.wait(30)
    context = dg.build_sensor_context(instance=instance, definitions=defs)
    result = reap_dead_runs(context)
    assert isinstance(result, dg.SensorResult)
    assert worker.run_id in str(result.skip_reason)
    assert_freed(instance, worker.run_id)


def test_the_next_build_takes_over_from_a_killed_one_at_once(
    kb: Kb, instance: dg.DagsterInstance, db: Database, sleepy_site: str
) -> None:
    apply(sleepy_site)
    with building(kb, db) as (process, dead):
        os.kill(pid_of(dead), signal.SIGKILL)
        process.wait(30)
    assert leases.current_lease(db, KEY) is None  # whoever started the worker knows that it is dead
    with building(kb, db) as (_, heir):
        assert_untouched(instance, heir.run_id)
        assert status_of(instance, dead.run_id) == FAILED
        assert refreshes.get_refresh(db, KEY, dead.run_id).status == "failed"  # type: ignore[union-attr]
        assert claimed(instance) == [heir.run_id]


def test_a_worker_of_another_machine_is_given_up_when_it_is_silent_twice(
    instance: dg.DagsterInstance, db: Database
) -> None:
    apply()
    run = start_run(instance)
    beat_from(ELSEWHERE, run, SILENT_S - 1)
    assert reap(instance, db, {}).suspects == {}
    beat_from(ELSEWHERE, run, SILENT_S + 1)
    first = reap(instance, db, {})
    assert first.ended == []
    assert_untouched(instance, run.run_id)
    with pytest.raises(Unhealthy, match=r"2\d s since its last sign of life"):
        check_runs(instance, db)
    assert reap(instance, db, json.loads(json.dumps(first.suspects))).ended == [run.run_id]
    assert_freed(instance, run.run_id)
    assert check_runs(instance, db) == "0 at work"


def test_a_beat_between_two_looks_clears_a_worker(instance: dg.DagsterInstance, db: Database) -> None:
    apply()
    run = start_run(instance)
    beat_from(ELSEWHERE, run, 3600)  # all machines were asleep
    first = reap(instance, db, {})
    beat_from(ELSEWHERE, run, 0)
    assert reap(instance, db, first.suspects).ended == []
    beat_from(ELSEWHERE, run, 1800)  # and once more
    assert reap(instance, db, first.suspects).ended == []
    assert_untouched(instance, run.run_id)


def test_a_beat_at_the_last_moment_saves_the_run(instance: dg.DagsterInstance, db: Database) -> None:
    apply()
    run = start_run(instance)
    beat_from(ELSEWHERE, run, 100)
    (worker,) = list_workers(instance, db)
    beat_from(ELSEWHERE, run, 0)
    assert not give_up(db, run.run_id, worker.beat_at, "dead")
    assert_untouched(instance, run.run_id)


def test_a_run_that_was_started_without_a_sign_of_life_is_given_time(
    instance: dg.DagsterInstance, db: Database
) -> None:
    apply()
    run = start_run(instance)  # its worker died between Dagster's first event and the first beat, or is slow
    assert reap(instance, db, {run.run_id: None}).ended == []
    assert reap(instance, db, {}, silent_after_s=0).suspects == {run.run_id: None}
    assert_untouched(instance, run.run_id)
    assert reap(instance, db, {run.run_id: None}, silent_after_s=0).ended == [run.run_id]
    assert_freed(instance, run.run_id)


def test_runs_that_do_not_beat_are_left_alone(instance: dg.DagsterInstance, db: Database) -> None:
    @dg.op
    def other() -> None: ...

    @dg.job
    def somebody_elses() -> None:
        other()

    run = instance.create_run_for_job(somebody_elses)
    instance.report_dagster_event(dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, run.job_name), run.run_id)
    waiting = instance.create_run_for_job(defs.resolve_job_def("refresh_kb"))  # its worker is being started
    suspects = dict.fromkeys((run.run_id, waiting.run_id))
    assert reap(instance, db, suspects, silent_after_s=0).ended == []
    assert status_of(instance, run.run_id) == STARTED


def test_a_run_that_waits_or_works_beats_all_the_time(instance: dg.DagsterInstance, db: Database) -> None:
    apply()
    run = start_run(instance)
    with beating(db, run.run_id, every_s=0.02):
        first = get_heartbeat(db, run.run_id)
        assert first
        wait_until(lambda: (beat := get_heartbeat(db, run.run_id)) and beat.beat_at > first.beat_at)
        first.machine = ELSEWHERE
        assert judge(first, first.beat_at + SILENT_S + 1) == "silent"
        first.machine = ""  # where the machine cannot be told, beats are all there is
        assert judge(first, first.beat_at + SILENT_S - 1) == "alive"
    last = get_heartbeat(db, run.run_id)
    assert last
    assert judge(last, last.beat_at + 3600) == "alive"  # this process is there


def test_a_run_beats_from_its_start_and_is_tidied_up_after_its_end(instance: dg.DagsterInstance, db: Database) -> None:
    done = defs.resolve_job_def("housekeeping").execute_in_process(instance=instance)
    assert [beat.run_id for beat in list_heartbeats(db)] == [done.run_id]
    assert reap(instance, db, {}).ended == []  # it ended by itself, and its process is there
    assert list_heartbeats(db) != []
    assert reap(instance, db, {}, silent_after_s=0).ended == []
    assert list_heartbeats(db) == []


def test_a_cancelled_run_whose_worker_died_is_cancelled(instance: dg.DagsterInstance, db: Database) -> None:
    apply()
    run = start_run(instance)
    instance.report_run_canceling(run)
    beat_from(ELSEWHERE, run, 100)
    assert reap(instance, db, reap(instance, db, {}).suspects).ended == [run.run_id]
    assert_freed(instance, run.run_id, CANCELED)


def test_a_run_cancelled_between_two_steps_is_recorded_as_cancelled(instance: dg.DagsterInstance, db: Database) -> None:
    apply()
    run = start_run(instance)
    beat_from(ELSEWHERE, run, 100)
    instance.report_run_canceled(run)  # by its worker, which had no step open that could have recorded it
    assert reap(instance, db, {}).ended == []
    assert_freed(instance, run.run_id, CANCELED)


def test_what_an_ended_or_deleted_run_left_behind_is_freed(instance: dg.DagsterInstance, db: Database) -> None:
    apply()
    run = start_run(instance)
    beat_from(ELSEWHERE, run, 100)
    instance.report_run_failed(run, "its code server saw the worker die")
    assert reap(instance, db, {}).ended == []
    assert_freed(instance, run.run_id)
    instance.event_log_storage.claim_concurrency_slot("crawl", "deleted", "raw_documents")
    reap(instance, db, {})
    assert claimed(instance) == []


def test_a_worker_that_wakes_up_after_its_run_was_ended_can_write_nothing(
    instance: dg.DagsterInstance, db: Database
) -> None:
    apply()
    run = start_run(instance)
    lease = leases.acquire_lease(db, KEY, run.run_id)
    beat_from(ELSEWHERE, run, 100)
    reap(instance, db, reap(instance, db, {}).suspects)
    with pytest.raises(LeaseLost):
        leases.check_lease(db, lease)
    with db.write_all() as session, pytest.raises(LeaseLost):
        leases.verify_lease(session, lease)


def test_an_ended_run_does_no_further_step(instance: dg.DagsterInstance) -> None:
    apply()
    run = start_run(instance)
    refuse_if_ended(instance, run.run_id)
    instance.report_run_failed(run, "given up")
    with pytest.raises(dg.Failure, match="ended"):
        refuse_if_ended(instance, run.run_id)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["all"])
def test_a_whole_deployment_recovers_from_kills_and_the_next_tick_runs_once(target: str) -> None:
    trial = run_trial(target)
    assert trial.is_good, trial
