"""Limits of one request: how long its address, headers and body may be, and how long it may take to come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from re import Pattern

import anyio
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kb_pipeline.service import problems

MAX_TARGET_BYTES = 8192
"""Of a path with its query."""
MAX_HEADER_BYTES = 32_768
_SILENCE_S = 30.0
"""How long the rest of a body may be waited for, from one piece to the next."""


class RequestLimits:
    """ASGI middleware that refuses requests that are too long, too slow or take too long.

    It counts the bytes that really come, whatever Content-Length says, as they are read: nothing is kept here.
    """

    def __init__(
        self, app: ASGIApp, max_body_bytes: int, timeout_s: float, own_limit: Sequence[tuple[Pattern[str], int]] = ()
    ) -> None:
        """Wrap an application.

        Args:
            app: what is wrapped.
            max_body_bytes: of a request's body.
            timeout_s: from the end of a request to the beginning of its answer.
            own_limit: paths that have a limit of their own, as those of uploads have; the first that matches counts.
        """
        self._app, self._max_body_bytes, self._timeout_s, self._own_limit = app, max_body_bytes, timeout_s, own_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 413, 414 or 431, or pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = next((size for path, size in self._own_limit if path.fullmatch(scope["path"])), self._max_body_bytes)
        if (refused := _refusal(scope, limit)) is not None:
            await problems.of_status(*refused)(scope, receive, send)
            return
        with anyio.CancelScope() as running:
            answer = _Answer(scope, receive, send, self._timeout_s, running.cancel)
            body = _Body(receive, limit, when_whole=answer.start_timer)
            if _has_no_body(scope):
                answer.start_timer()
            try:
                await self._app(scope, body.receive, answer.send)
            finally:
                answer.stop_timer()


class _Body:
    """A body, piece by piece."""

    def __init__(self, receive: Receive, limit: int, when_whole: Callable[[], None]) -> None:
        self._receive, self._left, self._limit, self._when_whole = receive, limit, limit, when_whole
        self._is_whole = False

    async def receive(self) -> Message:
        """Return the next piece; raise HTTPException 413 or 408, which is answered as a problem."""
        if self._is_whole:
            return await self._receive()
        try:
            async with asyncio.timeout(_SILENCE_S):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, f"the rest of the body did not come within {_SILENCE_S:.0f} s") from None
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise HTTPException(413, _too_long(self._limit))
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._is_whole = True
            self._when_whole()
        return message


class _Answer:
    """An answer that must begin in time; what comes after it was given up goes nowhere."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, timeout_s: float, cancel: Callable[[], None]
    ) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._timeout_s, self._cancel = timeout_s, cancel
        self._timer: asyncio.TimerHandle | None = None
        self._giving_up: asyncio.Task[None] | None = None
        self._has_begun = False

    def start_timer(self) -> None:
        if self._timer is None and not self._has_begun:
            self._timer = asyncio.get_running_loop().call_later(self._timeout_s, self._give_up)

    def stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def send(self, message: Message) -> None:
        if self._giving_up is not None:
            return
        if message["type"] == "http.response.start":
            self._has_begun = True
            self.stop_timer()
        await self._send(message)

    def _give_up(self) -> None:
        self._giving_up = asyncio.create_task(self._refuse())

    async def _refuse(self) -> None:
        try:
            detail = f"there was no answer within {self._timeout_s:.0f} s; try again later, or ask for less"
            await problems.of_status(503, detail, {"Retry-After": "5"})(self._scope, self._receive, self._send)
        finally:
            self._cancel()


def _refusal(scope: Scope, limit: int) -> tuple[int, str] | None:
    if len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"]) > MAX_TARGET_BYTES:
        return 414, f"the address is longer than {MAX_TARGET_BYTES} bytes; send the query in the body, by POST"
    if sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > MAX_HEADER_BYTES:
        return 431, f"the headers are longer than {MAX_HEADER_BYTES} bytes"
    announced = Headers(scope=scope).get("content-length", "0")
    if not (announced.isascii() and announced.isdecimal()) or int(announced[:20]) > limit:
        return 413, _too_long(limit)
    return None


def _has_no_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return "transfer-encoding" not in headers and headers.get("content-length", "0") == "0"


def _too_long(limit: int) -> str:
    return f"the body is longer than the {limit} bytes that are allowed here"
