"""Limits of requests: each refusal is a problem, and nothing of what is refused is kept."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from kb_pipeline.service import problems, request_limits
from kb_pipeline.service.request_limits import MAX_HEADER_BYTES, MAX_TARGET_BYTES, RequestLimits

LIMIT = 1000


@pytest.fixture
def http() -> Iterator[TestClient]:
    """Open an application with small limits."""
    app = FastAPI()
    problems.install(app)

    @app.post("/json")
    async def _json(given: dict[str, Any]) -> int:
        return len(given)

    @app.post("/upload/x")
    async def _upload(request: Request) -> int:
        return sum([len(piece) async for piece in request.stream()])

    @app.get("/slow")
    async def _slow() -> None:
        await asyncio.sleep(600)

    app.add_middleware(
        RequestLimits, max_body_bytes=LIMIT, timeout_s=0.2, own_limit=[(re.compile("/upload/[^/]+"), 5000)]
    )
    with TestClient(app, raise_server_exceptions=False, headers={"Content-Type": "application/json"}) as opened:
        yield opened


def refused(answer: Any, status: int) -> str:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["status"] == status
    return str(answer.json()["detail"])


def pieces(count: int) -> Iterator[bytes]:
    """Yield a body whose length nobody announces."""
    for _ in range(count):
        yield b" " * 100


def test_a_body_is_taken_up_to_its_limit_whether_or_not_its_length_is_announced(http: TestClient) -> None:
    body = b"{}".ljust(LIMIT)
    assert http.post("/json", content=body).json() == 0
    assert http.post("/json", content=iter([body])).json() == 0
    assert "1000 bytes" in refused(http.post("/json", content=body + b" "), 413)
    assert "1000 bytes" in refused(http.post("/json", content=pieces(11)), 413)


def test_paths_of_uploads_have_a_limit_of_their_own(http: TestClient) -> None:
    assert http.post("/upload/x", content=pieces(50)).json() == 5000
    assert "5000 bytes" in refused(http.post("/upload/x", content=pieces(51)), 413)
    assert "1000 bytes" in refused(http.post("/upload/x/y", content=b" " * 1001), 413)


@pytest.mark.parametrize("length", ["-1", "1e9", "9" * 400, "x"])
def test_a_length_that_is_none_is_refused(http: TestClient, length: str) -> None:
    refused(http.post("/json", content=b"{}", headers={"Content-Length": length}), 413)


def test_addresses_and_headers_are_not_endless(http: TestClient) -> None:
    assert "by POST" in refused(http.get("/slow", params={"q": "x" * MAX_TARGET_BYTES}), 414)
    refused(http.get("/slow", headers={"X-Long": "x" * MAX_HEADER_BYTES}), 431)


def test_an_answer_that_does_not_begin_in_time_is_given_up(http: TestClient) -> None:
    answer = http.get("/slow")
    assert "no answer within" in refused(answer, 503)
    assert answer.headers["retry-after"] == "5"


def test_a_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_limits, "_SILENCE_S", 0.05)
    sent: list[Any] = []

    async def read_all(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass

    async def silent() -> Any:
        await asyncio.sleep(600)

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> None:
        scope = {"type": "http", "path": "/", "query_string": b"", "headers": [(b"content-length", b"5")]}
        with pytest.raises(HTTPException) as caught:
            await RequestLimits(read_all, LIMIT, 60)(scope, silent, send)
        assert caught.value.status_code == 408

    asyncio.run(run())
    assert sent == []
