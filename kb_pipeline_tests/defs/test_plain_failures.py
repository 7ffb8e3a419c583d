"""A failure with a known reason is words; any other one keeps its stack trace."""

from __future__ import annotations

import dagster as dg
import pytest

from kb_pipeline.defs.plain_failures import PlainFailures
from kb_pipeline.defs.resources import translated_errors
from kb_pipeline.errors import LeaseHeld, UnknownKb

pytestmark = pytest.mark.upgrade("dagster")


class InThisProcess(dg.ConfigurableResource[object], PlainFailures):
    """As Workspaces, which needs a home."""


def events_of(error: Exception) -> list[dg.DagsterEvent]:
    @dg.op(required_resource_keys={"launcher"})
    def step() -> None:
        with translated_errors():
            raise error

    @dg.job(resource_defs={"launcher": InThisProcess()}, executor_def=dg.in_process_executor)
    def job() -> None:
        step()

    with dg.DagsterInstance.ephemeral() as instance:
        return list(job.execute_in_process(instance=instance, raise_on_error=False).all_events)


def failed_step(error: Exception) -> dg.DagsterEvent:
    (event,) = (event for event in events_of(error) if event.is_step_failure)
    return event


def test_a_known_failure_is_told_in_its_words_without_a_stack_trace() -> None:
    data = failed_step(UnknownKb("acme/typo")).step_failure_data
    assert data.error is not None
    assert data.error.to_string().strip() == "acme/typo: no such KB here; apply its file first: kb apply FILE"
    assert (data.error.stack, data.error.cause, data.error.context) == ([], None, None)
    assert data.user_failure_data is not None
    assert "no such KB here" in (data.user_failure_data.description or "")


def test_a_fault_of_the_program_keeps_its_stack_trace() -> None:
    text = failed_step(ZeroDivisionError("by zero")).step_failure_data.error_display_string
    assert "ZeroDivisionError: by zero" in text
    assert "test_plain_failures.py" in text


def test_an_error_that_passes_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kb_pipeline.defs.resources._WAIT_S", {LeaseHeld: 0})
    kinds = [event.event_type_value for event in events_of(LeaseHeld("acme/docs", "run-1", 5))]
    assert (kinds.count("STEP_UP_FOR_RETRY"), kinds.count("STEP_FAILURE")) == (2, 1)
