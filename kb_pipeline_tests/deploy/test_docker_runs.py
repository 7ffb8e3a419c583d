"""Runs in containers, end to end against a stand-in engine: launched from the queue, published, cancelled."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster_graphql.test.utils import execute_dagster_graphql

from kb_pipeline.control.catalogue import apply_spec
from kb_pipeline.control.database import Database
from kb_pipeline.control.status import describe_kb
from kb_pipeline.defs.instance import open_instance
from kb_pipeline.defs.launchers import STOP_TIMEOUT_S
from kb_pipeline.defs.partitions import add_partition
from kb_pipeline.model import KbKey
from kb_pipeline.settings import load_settings
from kb_pipeline.spec import parse_spec
from kb_pipeline_tests.deploy.engine import Container, Engine, serve_engine
from kb_pipeline_tests.site import Site

KEY = KbKey("acme", "docs")
IMAGE = "registry.example/kb-pipeline:1.2"
LAUNCH = """
mutation($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId status } }
    ... on PythonError { message }
  }
}
"""
TERMINATE = "mutation($run: String!) { terminateRun(runId: $run) { __typename } }"


class Roles:
    """The roles of a deployment in one process: a code server, and what web UI and daemon do with it."""

    def __init__(self, context: WorkspaceProcessContext, engine: Engine) -> None:
        self.context, self.engine, self.instance = context, engine, context.instance

    def ask(self, mutation: str, **variables: Any) -> Any:
        """What the web UI's buttons send."""
        [answer] = execute_dagster_graphql(self.context.create_request_context(), mutation, variables).data.values()
        return answer

    def launch(self) -> str:
        """Press Launch; returns the id of the queued run."""
        [location] = self.context.create_request_context().code_locations
        [repository] = location.get_repositories()
        selector = {
            "repositoryLocationName": location.name,
            "repositoryName": repository,
            "pipelineName": "refresh_kb",
        }
        metadata = {"tags": [{"key": "dagster/partition", "value": str(KEY)}]}
        answer = self.ask(LAUNCH, params={"selector": selector, "mode": "default", "executionMetadata": metadata})
        assert answer["__typename"] == "LaunchRunSuccess", answer
        assert answer["run"]["status"] == "QUEUED"
        return str(answer["run"]["runId"])

    def dequeue(self) -> Container:
        """One round of the daemon; returns the container that it started."""
        before = set(self.engine.containers)
        for _ in QueuedRunCoordinatorDaemon(interval_seconds=1).run_iteration(self.context):
            pass
        [started] = set(self.engine.containers) - before
        return self.engine.containers[started]

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run.status


@contextmanager
def loaded(engine: Engine) -> Iterator[Roles]:
    with ExitStack() as stack:
        instance = stack.enter_context(open_instance(load_settings()))
        add_partition(instance, KEY)
        target = ModuleTarget("kb_pipeline.definitions", None, None, None)
        context = stack.enter_context(WorkspaceProcessContext(instance, target))
        yield Roles(context, engine)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine whose images hold Python, this code and a dagster.yaml."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    code = str(Path(__file__).parents[2])
    with serve_engine({"PATH": path, "PYTHONPATH": code, "HOME": str(tmp_path)}, tmp_path) as engine:
        yield engine


@pytest.fixture
def roles(
    home: Path, models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine, fresh_postgres: str
) -> Iterator[Roles]:
    secret = tmp_path / "database_url"
    secret.write_text(fresh_postgres)
    monkeypatch.setenv("KB_DATABASE_URL_FILE", str(secret))
    monkeypatch.setenv("KB_RUN_LAUNCHER", "docker")
    monkeypatch.setenv("KB_RUN_IMAGE", IMAGE)
    monkeypatch.setenv("KB_RUN_VOLUMES", f"{home}:{home},{models_dir}:{models_dir},{secret}:{secret}:ro")
    monkeypatch.setenv("KB_RUN_VARIABLES", "DOCS_TOKEN,NOT_SET_HERE")
    monkeypatch.setenv("KB_DOCKER_NETWORK", "kb")
    monkeypatch.setenv("DOCKER_HOST", engine.url)
    monkeypatch.setenv("DOCS_TOKEN", "t0ken")
    monkeypatch.setenv("UNRELATED_SECRET", "hunter2")
    with loaded(engine) as roles:
        yield roles


def apply(site: Site) -> None:
    source = f"{{name: site, type: web, start_urls: ['{site.url}/'], delay_s: 0}}"
    yaml = f"tenant: acme\nkb: docs\nsources: [{source}]\nembedding: {{model: all-MiniLM-L6-v2}}\n"
    apply_spec(Database(load_settings().database_url), parse_spec(yaml, "test"), yaml)


def wait_until(happened: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.1)


def test_a_refresh_launched_from_the_web_ui_runs_in_a_container_and_publishes(
    roles: Roles, site: Site, fresh_postgres: str
) -> None:
    apply(site)
    run_id = roles.launch()
    container = roles.dequeue()
    assert container.wait(120) == 0, roles.engine.log(container)
    assert roles.status(run_id) == dg.DagsterRunStatus.SUCCESS, roles.engine.log(container)
    assert describe_kb(Database(load_settings().database_url), KEY)["live_version"] == 1
    assert site.asked["/"] == 1

    spec, host = container.spec, container.spec["HostConfig"]
    assert (spec["Image"], host["NetworkMode"]) == (IMAGE, "kb")
    assert spec["Labels"]["dagster/run_id"] == run_id
    assert host["ReadonlyRootfs"]
    assert (host["CapDrop"], host["SecurityOpt"]) == (["ALL"], ["no-new-privileges"])
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (4096 << 20, 2_000_000_000, 512)
    assert set(container.environment) == {
        "DAGSTER_RUN_JOB_NAME", "DOCS_TOKEN", "KB_ALLOW_PRIVATE_NETWORKS", "KB_DATABASE_URL_FILE", "KB_HOME",
        "KB_RUN_LAUNCHER",
    }  # fmt: skip
    assert "hunter2" not in str(spec)
    assert fresh_postgres not in str(spec)  # the secret is in its file only
    # What the daemon's socket proxy must let through, and nothing more.
    assert set(roles.engine.calls) == {
        ("GET", "/version"), ("POST", "/containers/create"), ("GET", "/containers/ID/json"),
        ("POST", "/containers/ID/start"),
    }  # fmt: skip


@pytest.mark.parametrize("role", ["daemon", "web UI"])
def test_cancel_ends_the_run_in_its_container(
    roles: Roles, site: Site, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    reached, answer = threading.Event(), threading.Event()

    def hang() -> dict[str, str]:
        reached.set()
        answer.wait(60)
        return {}

    site.headers = hang
    apply(site)
    run_id = roles.launch()
    container = roles.dequeue()
    try:
        wait_until(reached.is_set)
        if role == "daemon":
            assert roles.instance.run_launcher.terminate(run_id)
            assert container.stop_timeout_s == STOP_TIMEOUT_S
        else:  # it cannot reach the engine
            monkeypatch.setenv("KB_RUN_LAUNCHER", "elsewhere")
            monkeypatch.delenv("DOCKER_HOST")
            with loaded(roles.engine) as web_ui:
                assert web_ui.ask(TERMINATE, run=run_id)["__typename"] == "TerminateRunSuccess"
        container.wait(60)
    finally:
        answer.set()
    assert roles.status(run_id) == dg.DagsterRunStatus.CANCELED, roles.engine.log(container)
    assert ("POST", "/containers/ID/stop") in roles.engine.calls or role == "web UI"
    assert describe_kb(Database(load_settings().database_url), KEY)["live_version"] is None


def test_a_container_that_is_gone_is_no_running_worker(roles: Roles, site: Site) -> None:
    apply(site)
    run_id = roles.launch()
    container = roles.dequeue()
    run = roles.instance.get_run_by_id(run_id)
    assert run is not None
    assert roles.instance.run_launcher.check_run_worker_health(run).status.value == "RUNNING"
    container.kill()
    assert roles.instance.run_launcher.check_run_worker_health(run).status.value == "FAILED"
    del roles.engine.containers[container.id]  # an engine removes it by itself
    assert roles.instance.run_launcher.check_run_worker_health(run).status.value == "NOT_FOUND"
