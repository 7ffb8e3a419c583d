"""Executes steps so that a failure with a known reason is shown by its words, without a stack trace."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
from dagster._core.events import DagsterEvent
from dagster._core.execution.context.system import StepExecutionContext
from dagster._core.execution.plan.execute_step import core_dagster_event_sequence_for_step
from dagster._core.execution.plan.objects import StepFailureData, UserFailureData
from dagster_shared.error import SerializableErrorInfo


class PlainFailures(dg.StepLauncher):
    """Executes a step in this process as usual, but reports a dg.Failure by its description and metadata alone.

    Dagster adds a stack trace to every failure, also to one that has nothing to do with the code: a version that waits
    for approval, or a quota that is used up. Errors of any other class keep theirs. The step launcher is the one place
    where the event can be written otherwise; an op gets it with a resource of this class.
    """

    def launch_step(self, step_context: StepExecutionContext) -> Iterator[DagsterEvent]:
        """Execute the step and yield its events."""
        try:
            yield from core_dagster_event_sequence_for_step(step_context)
        except dg.Failure as failure:
            step_context.capture_step_exception(failure)
            words = failure.description or ""
            error = SerializableErrorInfo(f"{words}\n", stack=[], cls_name=None)
            told = UserFailureData("failure", words, failure.metadata)  # type: ignore[no-untyped-call]
            reported = StepFailureData(error, told)  # type: ignore[no-untyped-call]
            yield DagsterEvent.step_failure_event(step_context, reported)
            if step_context.raise_on_error:
                raise
