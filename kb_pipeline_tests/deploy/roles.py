"""The roles of a deployment in one process: a code server, and what web UI and daemon do with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import dagster as dg
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget, ModuleTarget
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster_graphql.test.utils import execute_dagster_graphql

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs.catalog import apply_spec
from kb_pipeline.defs.instance import open_instance
from kb_pipeline.defs.partitions import add_partition
from kb_pipeline.model import KbKey
from kb_pipeline.settings import load_settings
from kb_pipeline.spec.kb_file import parse_spec

KEY = KbKey("acme", "docs")
_LAUNCH = """
mutation($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId status } }
    ... on PythonError { message }
  }
}
"""
_TERMINATE = "mutation($run: String!) { terminateRun(runId: $run) { __typename } }"


class Roles:
    """What the buttons of the web UI and the rounds of the daemon do."""

    def __init__(self, context: WorkspaceProcessContext) -> None:
        self._context, self.instance = context, context.instance

    def launch(self, tags: dict[str, str] | None = None) -> str:
        """Press Launch; returns the id of the queued run."""
        [location] = self._context.create_request_context().code_locations
        [repository] = location.get_repositories()
        tags = {"dagster/partition": str(KEY)} | (tags or {})
        params = {
            "selector": {
                "repositoryLocationName": location.name,
                "repositoryName": repository,
                "pipelineName": "refresh_kb",
            },
            "mode": "default",
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        }
        answer = self._ask(_LAUNCH, params=params)
        assert answer["__typename"] == "LaunchRunSuccess", answer
        assert answer["run"]["status"] == "QUEUED"
        return str(answer["run"]["runId"])

    def terminate(self, run_id: str) -> None:
        """Press Terminate."""
        assert self._ask(_TERMINATE, run=run_id)["__typename"] == "TerminateRunSuccess"

    def dequeue(self) -> None:
        """One round of the daemon."""
        for _ in QueuedRunCoordinatorDaemon(interval_seconds=1).run_iteration(self._context):
            pass

    def run(self, run_id: str) -> dg.DagsterRun:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run

    def _ask(self, mutation: str, **variables: Any) -> Any:
        [answer] = execute_dagster_graphql(self._context.create_request_context(), mutation, variables).data.values()
        return answer


@contextmanager
def play_roles(*, with_code: bool = True) -> Iterator[Roles]:
    """Roles on the instance that the environment names."""
    with ExitStack() as stack:
        instance = stack.enter_context(open_instance(load_settings()))
        add_partition(instance, KEY)
        target = ModuleTarget("kb_pipeline.definitions", None, None, None) if with_code else EmptyWorkspaceTarget()
        yield Roles(stack.enter_context(WorkspaceProcessContext(instance, target)))


def apply_kb(url: str) -> None:
    """Apply the spec of a KB of the whole site, with the model that opens fastest."""
    source = f"{{name: site, type: web, start_urls: ['{url}/'], delay_s: 0}}"
    yaml = f"tenant: acme\nkb: docs\nsources: [{source}]\nembedding: {{model: all-MiniLM-L6-v2}}\n"
    apply_spec(Database(load_settings().database_url), parse_spec(yaml, "test"), yaml, "tester")


def wait_until(happened: Callable[[], bool], seconds: float = 90) -> None:
    """Look ten times a second."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.1)
