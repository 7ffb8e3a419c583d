"""What can be told of a request afterwards: its id, trace, tenant, KB, route and end; and nothing of its text."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from kb_pipeline.log_lines import JsonLines
from kb_pipeline.service import request_log
from kb_pipeline_tests.service.serving import Client

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Lines(logging.Handler):
    """Keeps what a process would write."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))


@pytest.fixture
def lines() -> Iterator[list[str]]:
    handler, logger = Lines(), logging.getLogger(request_log.__name__)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler.texts
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_a_request_is_one_line_with_what_it_was_and_without_what_it_said(acme: Client, lines: list[str]) -> None:
    headers = {"X-Request-ID": "order-7", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    found = acme.get("/kbs/acme.docs/search?q=confidential&mode=keyword", headers=headers)
    assert found.headers["x-request-id"] == "order-7"
    (line,) = map(json.loads, lines)
    assert line["time"] is not None
    assert line["ms"] >= 0
    expected = {
        "level": "INFO", "message": "GET /api/v1/kbs/{kb}/search 200", "request_id": "order-7", "trace_id": TRACE,
        "tenant": "acme", "kb": "acme.docs", "method": "GET", "route": "/api/v1/kbs/{kb}/search", "status": 200,
    }  # fmt: skip
    assert {name: line.get(name) for name in expected} == expected
    assert "confidential" not in lines[0]
    assert "kb_acme" not in lines[0]


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "né", 'a"b'])
def test_an_id_that_is_no_plain_word_is_replaced(http: TestClient, given: str) -> None:
    told = http.get("/healthz", headers=[(b"X-Request-ID", given.encode())]).headers["x-request-id"]
    assert told != given
    assert len(told) == 32


@pytest.mark.parametrize(
    "given",
    ["", "nonsense", f"00-{'0' * 32}-00f067aa0ba902b7-01", f"ff-{TRACE}-00f067aa0ba902b7-01", f"00-{TRACE}-zz-01"],
)
def test_a_trace_that_is_none_gives_way_to_a_new_one(acme: Client, lines: list[str], given: str) -> None:
    acme.get("/kbs", headers={"traceparent": given})
    (line,) = map(json.loads, lines)
    assert len(line["trace_id"]) == 32
    assert line["trace_id"] not in (TRACE, "0" * 32)


def test_probes_are_not_logged_and_strangers_are(http: TestClient, lines: list[str]) -> None:
    http.get("/healthz")
    http.get("/api/v1/kbs")
    (line,) = map(json.loads, lines)
    assert (line["status"], "tenant" in line) == (401, False)
