"""Streams and WebSockets end when their caller's token is valid no longer, on a real server."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

import kb_pipeline
from kb_pipeline.access_settings import AccessSettings
from kb_pipeline.installation import Installation
from kb_pipeline.service.callers import Authentication
from kb_pipeline.service.exchanges import NO_LONGER_VALID
from kb_pipeline.settings import load_settings
from kb_pipeline_tests.operations.tokens import SECRET, claims, signed

ENDED: list[str] = []
"""What the application was told of."""


async def _for_ever() -> AsyncIterator[bytes]:
    try:
        while True:
            yield b"data: on\n\n"
            await asyncio.sleep(0.05)
    finally:
        ENDED.append("stream")


async def _stream(_: Request) -> Response:
    return StreamingResponse(_for_ever(), media_type="text/event-stream")


async def _download(_: Request) -> Response:
    return StreamingResponse(_for_ever(), headers={"Content-Length": "1000000000"})


async def _silence(_: Request) -> Response:
    await asyncio.sleep(600)
    return JSONResponse({})


async def _short(request: Request) -> Response:
    return JSONResponse({"tenant": request.state.home.caller.tenant})


async def _echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_json({"tenant": websocket.state.home.caller.tenant, "offered": websocket["subprotocols"]})
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        ENDED.append("left")


ROUTES = [
    Route("/stream", _stream), Route("/download", _download), Route("/silence", _silence), Route("/short", _short),
    WebSocketRoute("/echo", _echo),
]  # fmt: skip


@pytest.fixture
def operator(home: Path) -> Iterator[Installation]:
    access = AccessSettings(jwt_secret=SECRET)
    with kb_pipeline.open(settings=replace(load_settings(), access=access)) as opened:
        opened.tenants.create("acme")
        yield opened


@pytest.fixture
def address(operator: Installation) -> Iterator[str]:
    """Of a server of the application above behind the middleware."""
    ENDED.clear()
    with _serving(Authentication(Starlette(routes=ROUTES), operator, ())) as port:
        yield f"127.0.0.1:{port}"


@contextmanager
def _serving(app: Any) -> Iterator[int]:
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(60)


def headers_of(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def drained(address: str, path: str, token: str, invalidate: Any) -> int:
    """Read a stream to its end, which comes after its caller's token was made invalid; return the status."""
    with httpx2.stream("GET", f"http://{address}{path}", headers=headers_of(token), timeout=60) as answer:
        for number, _ in enumerate(answer.iter_bytes()):
            if number == 0:
                invalidate()
        return answer.status_code


def test_a_stream_ends_when_its_key_is_revoked(operator: Installation, address: str) -> None:
    key, made = operator.keys.create("acme", ["read"])
    assert drained(address, "/stream", key, lambda: operator.keys.revoke("acme", made.id)) == 200
    while not ENDED:  # the application is told, maybe a moment after the client
        time.sleep(0.05)
    assert ENDED == ["stream"]
    assert httpx2.get(f"http://{address}/stream", headers=headers_of(key)).status_code == 401


def test_a_stream_ends_when_its_tenant_is_suspended(operator: Installation, address: str) -> None:
    key, _ = operator.keys.create("acme", ["read"])
    assert drained(address, "/stream", key, lambda: operator.tenants.suspend("acme")) == 200


def test_a_stream_ends_with_its_token(address: str) -> None:
    token = signed(claims(exp=time.time() + 3))
    assert drained(address, "/stream", token, lambda: None) == 200


def test_a_stream_goes_on_while_its_key_is_valid(operator: Installation, address: str) -> None:
    key, made = operator.keys.create("acme", ["read"])
    other, _ = operator.keys.create("acme", ["read"])
    with httpx2.stream("GET", f"http://{address}/stream", headers=headers_of(other), timeout=60) as going_on:
        pieces = going_on.iter_bytes()
        next(pieces)
        drained(address, "/stream", key, lambda: operator.keys.revoke("acme", made.id))
        assert next(pieces)
    assert httpx2.get(f"http://{address}/short", headers=headers_of(other)).json() == {"tenant": "acme"}


def test_a_download_that_is_cut_off_is_not_taken_for_a_whole_one(operator: Installation, address: str) -> None:
    key, made = operator.keys.create("acme", ["read"])
    with pytest.raises(httpx2.RemoteProtocolError):
        drained(address, "/download", key, lambda: operator.keys.revoke("acme", made.id))


def test_a_request_that_has_no_answer_yet_is_refused(operator: Installation, address: str) -> None:
    key, made = operator.keys.create("acme", ["read"])
    threading.Timer(0.5, lambda: operator.keys.revoke("acme", made.id)).start()
    answer = httpx2.get(f"http://{address}/silence", headers=headers_of(key), timeout=60)
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")


def test_a_websocket_is_closed_when_its_key_is_revoked(operator: Installation, address: str) -> None:
    key, made = operator.keys.create("acme", ["read"])
    with connect(f"ws://{address}/echo", additional_headers=headers_of(key)) as websocket:
        assert json.loads(websocket.recv(60)) == {"tenant": "acme", "offered": []}
        websocket.send("hello")
        assert websocket.recv(60) == "hello"
        operator.keys.revoke("acme", made.id)
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(60)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == NO_LONGER_VALID


def test_a_browser_shows_its_token_among_the_subprotocols(operator: Installation, address: str) -> None:
    key, _ = operator.keys.create("acme", ["read"])
    for token in (key, signed()):
        with connect(f"ws://{address}/echo", subprotocols=["kb.bearer", token]) as websocket:  # type: ignore[list-item]
            assert websocket.subprotocol == "kb.bearer"
            assert json.loads(websocket.recv(60)) == {"tenant": "acme", "offered": ["kb.bearer"]}


@pytest.mark.parametrize("offered", [None, ["kb.bearer"], ["kb.bearer", "kb_acme_x"], ["other", "kb_acme_x"]])
def test_a_websocket_of_nobody_known_is_refused_before_it_is_accepted(address: str, offered: Any) -> None:
    with pytest.raises(InvalidStatus) as refused, connect(f"ws://{address}/echo", subprotocols=offered):
        pass
    response = refused.value.response
    assert (response.status_code, response.headers["content-type"]) == (401, "application/problem+json")
    assert json.loads(response.body or b"")["type"] == "urn:kb-pipeline:problem:key-refused"
    assert ENDED == []
