"""A refresh that somebody asks for is started once, whoever asks how often."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.runs.jobs import forget_old_jobs
from kb_pipeline.control.runs.requests import list_waiting, note_runs, request_run, waiting_of
from kb_pipeline.control.runs.status import describe_kb
from kb_pipeline.control.tenancy.tenants import set_status
from kb_pipeline.defs.sensors import _run_for
from kb_pipeline.errors import TenantInactive, UnknownKb
from kb_pipeline.model import KbKey
from kb_pipeline.request_context import RequestContext, current_request
from kb_pipeline_tests.control.planes import apply
from kb_pipeline_tests.operations.home import KEY

OTHER = KbKey("globex", "docs")


def test_who_asks_again_while_a_request_waits_has_asked_already(db: Database) -> None:
    apply(db, KEY)
    first = request_run(db, KEY, [], "mary")
    assert request_run(db, KEY, [], "john") == first
    assert (first.key, first.requested_by, first.run_id) == (KEY, "mary", None)
    forced = request_run(db, KEY, ["force"], "john")
    assert forced.options == ("force",)
    assert forced.id != first.id
    asked = [first.id, forced.id]
    assert [each.id for each in describe_kb(db, KEY).requested] == asked
    assert [(each.id, each.options) for each in list_waiting(db, 10)] == [(asked[0], ()), (asked[1], ("force",))]
    assert [each.id for each in list_waiting(db, 1)] == asked[:1]


def test_a_request_that_became_a_run_waits_no_more_and_the_next_is_a_new_one(db: Database) -> None:
    apply(db, KEY)
    apply(db, OTHER)
    first, others = request_run(db, KEY, [], "mary"), request_run(db, OTHER, [], "mary")
    note_runs(db, {request: "run-1" for request in list_waiting(db, 10) if request.key == KEY})
    assert (waiting_of(db, KEY), [each.id for each in list_waiting(db, 10)]) == ([], [others.id])
    assert request_run(db, KEY, [], "mary").id != first.id
    forget_old_jobs(db, timedelta())
    assert {each.key for each in list_waiting(db, 10)} == {KEY, OTHER}  # what waits is never forgotten


def test_nothing_is_asked_for_of_unknown_kbs_and_inactive_tenants(db: Database) -> None:
    apply(db, KEY)
    with pytest.raises(UnknownKb):
        request_run(db, KbKey(KEY.tenant, "nowhere"), [], "mary")
    request_run(db, KEY, [], "mary")
    set_status(db, KEY.tenant, "suspended", "unpaid", "operator")
    assert list_waiting(db, 10) == []
    with pytest.raises(TenantInactive):
        request_run(db, KEY, [], "mary")
    set_status(db, KEY.tenant, "active", "", "operator")
    assert [each.key for each in list_waiting(db, 10)] == [KEY]


def test_a_request_carries_the_trace_of_the_client_who_asked(db: Database) -> None:
    apply(db, KEY)
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    token = current_request.set(RequestContext("id", "4bf92f3577b34da6a3ce929d0e0e4736", parent))
    try:
        assert request_run(db, KEY, [], "mary").traceparent == parent
    finally:
        current_request.reset(token)
    (waiting,) = list_waiting(db, 10)
    assert waiting.traceparent == parent
    assert _run_for(waiting).tags["kb/traceparent"] == parent
