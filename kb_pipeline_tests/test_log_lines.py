"""One JSON object a line: what happened, within which request, and why."""

from __future__ import annotations

import json
import logging

from kb_pipeline.log_lines import JsonLines
from kb_pipeline.request_context import RequestContext, current_request


def _line(record: logging.LogRecord) -> dict[str, object]:
    text = JsonLines().format(record)
    assert "\n" not in text
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def test_a_line_says_what_happened_and_when() -> None:
    found = _line(logging.makeLogRecord({"name": "kb", "levelname": "INFO", "msg": "%d pages", "args": (3,)}))
    assert found.pop("time")
    assert found == {"level": "INFO", "logger": "kb", "message": "3 pages"}


def test_a_line_within_a_request_says_which() -> None:
    token = current_request.set(RequestContext("id", "trace", "parent", tenant="acme"))
    try:
        found = _line(logging.makeLogRecord({"msg": "x", "fields": {"status": 200}}))
    finally:
        current_request.reset(token)
    assert found.items() >= {"request_id": "id", "trace_id": "trace", "tenant": "acme", "status": 200}.items()
    assert "kb" not in found


def test_a_fault_is_on_the_same_line_with_its_trace() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        found = _line(logging.makeLogRecord({"msg": "x", "exc_info": (type(error), error, error.__traceback__)}))
    assert "ValueError: two\nlines" in str(found["exception"])
