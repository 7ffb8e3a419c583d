"""The run queue shares the machine between tenants, by what their plans say."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.run_coordinator.base import SubmitRunContext
from dagster._core.storage.dagster_run import DagsterRun
from dagster._core.utils import make_new_run_id
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from kb_pipeline.control.db.models import Plan
from kb_pipeline.control.kbs.catalog import apply_spec
from kb_pipeline.control.runs.priorities import QueuePolicy
from kb_pipeline.control.tenancy.tenants import create_tenant, set_plan, set_status
from kb_pipeline.definitions import defs
from kb_pipeline.defs.instance import open_instance
from kb_pipeline.defs.resources import open_database
from kb_pipeline.model import KbKey
from kb_pipeline.settings import load_settings
from kb_pipeline.spec.kb_file import parse_spec

pytestmark = pytest.mark.upgrade("dagster")

SOURCE = "{name: site, type: web, start_urls: ['http://site.example/']}"
ORIGIN = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("kb"), "kb"), "refresh_kb")


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with open_instance(load_settings()) as instance:
        yield instance


def put_plan(name: str, **limits: int) -> None:
    with open_database().write_all() as session:
        session.merge(Plan(name=name, limits=limits, prices={}, updated_at=datetime.now(UTC)))


def queue(instance: dg.DagsterInstance, key: str, **tags: str) -> dg.DagsterRun:
    """As the web UI does it: with nothing but the partition."""
    yaml = f"tenant: {KbKey.parse(key).tenant}\nkb: {KbKey.parse(key).kb}\nsources: [{SOURCE}]\n"
    apply_spec(open_database(), parse_spec(yaml, "test"), yaml, "tester")
    return submit(instance, {"dagster/partition": key, **tags})


def submit(instance: dg.DagsterInstance, tags: dict[str, str]) -> dg.DagsterRun:
    new = DagsterRun(
        job_name="refresh_kb",
        run_id=make_new_run_id(),
        tags=tags,
        status=dg.DagsterRunStatus.NOT_STARTED,
        remote_job_origin=ORIGIN,
    )
    run = instance.run_storage.add_run(new)  # without the plan of its steps: nothing executes it, and it costs most
    return instance.run_coordinator.submit_run(SubmitRunContext(run, workspace=None))  # type: ignore[arg-type]


def next_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Return the runs that Dagster's daemon would start now."""
    daemon = QueuedRunCoordinatorDaemon(interval_seconds=2)
    return daemon._get_runs_to_dequeue(instance, instance.get_concurrency_config(), None)


def start(instance: dg.DagsterInstance, runs: list[dg.DagsterRun]) -> None:
    for run in runs:
        instance.report_run_canceling(run)  # counts as in progress, and needs no worker


def tenants_of(runs: list[dg.DagsterRun]) -> Counter[str]:
    return Counter(run.tags["kb/tenant"] for run in runs)


def test_a_run_that_carries_only_its_partition_is_tagged_with_tenant_kb_and_plan(instance: dg.DagsterInstance) -> None:
    tags = queue(instance, "acme/docs").tags
    assert (tags["kb/tenant"], tags["kb/kb"], tags["kb/plan"]) == ("acme", "docs", "default")
    assert tags["kb/tenant.default"] == "acme"


def test_a_run_that_names_no_kb_is_queued_as_it_is(instance: dg.DagsterInstance) -> None:
    run = instance.create_run_for_job(
        defs.resolve_job_def("housekeeping"), status=dg.DagsterRunStatus.NOT_STARTED, remote_job_origin=ORIGIN
    )
    context = SubmitRunContext(run, workspace=None)  # type: ignore[arg-type]
    assert instance.run_coordinator.submit_run(context).status == dg.DagsterRunStatus.QUEUED


def test_runs_of_a_suspended_tenant_fail_at_once_with_the_reason(instance: dg.DagsterInstance) -> None:
    queue(instance, "acme/docs")
    set_status(open_database(), "acme", "suspended", "invoice 17 is open", "tester")
    run = submit(instance, {"dagster/partition": "acme/docs"})
    assert run.status == dg.DagsterRunStatus.FAILURE
    assert "tenant acme is suspended: invoice 17 is open" in reason_of(instance, run)
    set_status(open_database(), "acme", "active", "", "tester")
    assert queue(instance, "acme/docs").status == dg.DagsterRunStatus.QUEUED


def reason_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """What the run's page says, which holds no stack trace."""
    (event,) = [
        entry.dagster_event
        for entry in instance.all_logs(run.run_id)
        if entry.dagster_event and entry.dagster_event.event_type_value == "PIPELINE_FAILURE"
    ]
    assert event.event_specific_data is None
    return event.message or ""


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"dagster/partition": "acme/typo"}, "acme/typo: no such KB here; apply its file first: kb apply FILE"),
        ({"dagster/partition": "../etc"}, "'../etc' is not a KB key: write tenant/kb"),
        ({}, "the run names no KB: choose a partition, tenant/kb"),
    ],
)
def test_a_run_over_a_partition_that_is_no_kb_fails_at_once_in_words(
    instance: dg.DagsterInstance, tags: dict[str, str], reason: str
) -> None:
    queue(instance, "acme/docs")
    run = submit(instance, tags)
    assert run.status == dg.DagsterRunStatus.FAILURE
    assert reason in reason_of(instance, run)


def test_a_tenant_that_floods_the_queue_does_not_keep_another_waiting(instance: dg.DagsterInstance) -> None:
    for number in range(120):  # more than the page that the daemon reads at a time
        queue(instance, f"flood/kb-{number}")
    start(instance, next_runs(instance))
    queue(instance, "acme/docs")
    assert tenants_of(next_runs(instance)) == {"acme": 1}  # two of the flood run, more of it have to wait


def test_room_for_one_run_stays_free_for_another_tenant_whatever_a_plan_allows(instance: dg.DagsterInstance) -> None:
    put_plan("default", concurrent_runs=100)
    for number in range(30):
        queue(instance, f"flood/kb-{number}")
    running = next_runs(instance)
    assert tenants_of(running) == {"flood": 3}  # of the four that there is room for
    start(instance, running)
    queue(instance, "acme/docs")
    assert tenants_of(next_runs(instance)) == {"acme": 1}


@pytest.mark.parametrize(("host", "allowed"), [(4, 3), (2, 1), (1, 1), (-1, 8)])
def test_a_plan_is_cut_to_the_room_that_there_is(host: int, allowed: int) -> None:
    assert QueuePolicy("gold", 8, 1).runs_at_once(host) == allowed


def run_in_a_process(run_id: str) -> int:
    """Return the niceness of a worker that has begun to execute the run, and of a thread that it had before."""
    code = (
        "import os, sys, threading\n"
        "from kb_pipeline.defs.niceness import leave_cpu_to_others\n"
        "from kb_pipeline.defs.instance import open_instance\n"
        "from kb_pipeline.settings import load_settings\n"
        "go, say = threading.Event(), lambda: go.wait() and print(os.getpriority(os.PRIO_PROCESS, 0))\n"
        "thread = threading.Thread(target=say); thread.start()\n"
        "with open_instance(load_settings()) as instance:\n"
        "    leave_cpu_to_others(instance, instance.get_run_by_id(sys.argv[1]))\n"
        "go.set(); thread.join(); print(os.getpriority(os.PRIO_PROCESS, 0))"
    )
    done = subprocess.run([sys.executable, "-c", code, run_id], capture_output=True, text=True, check=True)
    of_thread, of_process = done.stdout.split()
    assert of_thread == of_process
    return int(of_process) - os.getpriority(os.PRIO_PROCESS, 0)


def test_a_worker_is_nice_while_its_tenant_has_other_kbs_to_refresh(instance: dg.DagsterInstance) -> None:
    flood = [queue(instance, f"flood/kb-{number}") for number in range(2)]
    single = [queue(instance, "acme/docs") for _ in range(2)]
    assert run_in_a_process(single[0].run_id) == 0
    assert run_in_a_process(flood[0].run_id) == 10
    instance.report_run_canceled(flood[1])
    assert run_in_a_process(flood[0].run_id) == 0


def test_plans_weigh_the_runs_of_their_tenants(instance: dg.DagsterInstance) -> None:
    for plan, weight in (("gold", 3), ("basic", 1)):
        put_plan(plan, concurrent_runs=100, priority=weight)
        create_tenant(open_database(), f"{plan}-tenant", "default", "tester")
        set_plan(open_database(), f"{plan}-tenant", plan, "tester")
    for number in range(30):
        queue(instance, f"basic-tenant/kb-{number}")
        queue(instance, f"gold-tenant/kb-{number}")
    served: Counter[str] = Counter()
    while sum(served.values()) < 20:
        running = next_runs(instance)
        served += tenants_of(running)
        for run in running:
            instance.report_run_canceled(run)
    assert served["gold-tenant"] == pytest.approx(15, abs=1)


def test_a_plan_that_changes_counts_for_what_waits_already(instance: dg.DagsterInstance) -> None:
    for number in range(5):
        queue(instance, f"acme/kb-{number}")
    assert len(next_runs(instance)) == 2
    put_plan("default", concurrent_runs=3)
    assert len(next_runs(instance)) == 3


def test_a_kb_has_one_writer_and_backfills_are_bounded(instance: dg.DagsterInstance) -> None:
    put_plan("default", concurrent_runs=100)
    queue(instance, "acme/docs")
    queue(instance, "acme/docs")
    assert len(next_runs(instance)) == 1
    for number in range(4):
        queue(instance, f"beta/kb-{number}", **{"dagster/backfill": "b1"})
    assert tenants_of(next_runs(instance)) == {"acme": 1, "beta": 2}
