"""Responses and WebSockets that are under way, and that end when their caller's token is valid no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.types import Message, Receive, Scope, Send

from kb_pipeline.errors import KbError, KeyRefused, TenantInactive
from kb_pipeline.service import problems
from kb_pipeline.service.concurrency import Place
from kb_pipeline.service.credentials import SUBPROTOCOL

NO_LONGER_VALID = 4401
"""The code that such a WebSocket is closed with."""
_RECHECK_S = 1.5
"""After this long, and every so often, a caller's token is looked at again."""
_MOST_CHECKS = 4096


class Validity:
    """Whether tokens are still valid: looked at once in a while for each, however many streams its holder has."""

    def __init__(self, identify: Callable[[str], object]) -> None:
        self._identify = identify
        self._checks: dict[str, tuple[float, asyncio.Task[KbError | None]]] = {}

    async def refusal(self, token: str) -> KbError | None:
        """Return why a token is valid no longer; None if it is, or if that cannot be found out at present."""
        now = asyncio.get_running_loop().time()
        known = self._checks.get(token)
        if known is None or now - known[0] >= _RECHECK_S:
            if len(self._checks) >= _MOST_CHECKS:
                self._checks = {key: each for key, each in self._checks.items() if now - each[0] < _RECHECK_S}
            known = self._checks[token] = (now, asyncio.create_task(run_in_threadpool(self._look, token)))
        return await asyncio.shield(known[1])

    def _look(self, token: str) -> KbError | None:
        try:
            self._identify(token)
        except (KeyRefused, TenantInactive) as error:
            return error
        except Exception:  # noqa: BLE001 - the database or an issuer is away: nobody is refused for that
            return None
        return None


class Exchange:
    """One response or WebSocket, which can be ended from outside while the application goes on with it."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, headers: Mapping[str, str]) -> None:
        """Wrap a request.

        Args:
            scope: of the request.
            receive: of the request.
            send: of the request.
            headers: to be added to the answer.
        """
        self._scope, self._receive, self._send = scope, receive, send
        self._place: Place | None = None
        self._cancel: Callable[[], None] = _nothing
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        self._has_begun = self._is_over = self._has_length = False

    def take_place(self, place: Place, cancel: Callable[[], None]) -> None:
        """Have room among the requests, to be given back if the answer is a stream; `cancel` ends the application."""
        self._place, self._cancel = place, cancel

    async def send(self, message: Message) -> None:
        """Pass a message on; what the application still says after the end goes nowhere."""
        if self._is_over:
            return
        if self._place is not None and _begins_stream(message):
            try:
                self._place.become_stream()
            except KbError as error:
                await self.end(error)
                self._cancel()
                return
        match message["type"]:
            case "http.response.start":
                self._has_begun = True
                self._has_length = any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
                message = {**message, "headers": [*message.get("headers", ()), *self._headers]}
            case "http.response.body" | "websocket.http.response.body":
                self._is_over = not message.get("more_body", False)
            case "websocket.accept":
                self._has_begun = True
                if SUBPROTOCOL in self._scope["subprotocols"] and message.get("subprotocol") is None:
                    message = {**message, "subprotocol": SUBPROTOCOL}
            case "websocket.close":
                self._is_over = True
        await self._send(message)

    async def end(self, error: KbError) -> None:
        """Say that the caller's token is valid no longer: as a whole answer, or by an early end of what has begun."""
        if self._is_over:
            return
        self._is_over = True
        if not self._has_begun:
            await refuse(error, self._scope, self._receive, self._send)
        elif self._scope["type"] == "websocket":
            await self._send({"type": "websocket.close", "code": NO_LONGER_VALID, "reason": "the token is not valid"})
        elif not self._has_length:  # else the server closes the connection, as what was announced is not there
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})


def _nothing() -> None:
    """Cancel nothing: nothing runs yet."""


def _begins_stream(message: Message) -> bool:
    """Return whether an answer begins here that may go on for long, idle most of the time."""
    if message["type"] == "websocket.accept":
        return True
    return message["type"] == "http.response.start" and any(
        name.lower() == b"content-type" and value.lower().startswith(b"text/event-stream")
        for name, value in message.get("headers", ())
    )


async def run_while_valid(
    application: Callable[[Send], Awaitable[None]], exchange: Exchange, place: Place, validity: Validity, token: str
) -> None:
    """Run the application until it has answered, or until the token is valid no longer.

    Most answers are whole before anything is looked at again: they cost one timer.
    """
    watching: list[asyncio.Task[None]] = []
    with anyio.CancelScope() as running:
        exchange.take_place(place, running.cancel)

        async def watch() -> None:
            while (error := await validity.refusal(token)) is None:
                await asyncio.sleep(_RECHECK_S)
            try:
                await exchange.end(error)
            finally:
                running.cancel()

        timer = asyncio.get_running_loop().call_later(_RECHECK_S, lambda: watching.append(asyncio.create_task(watch())))
        try:
            await application(exchange.send)
        finally:
            timer.cancel()
            for task in watching:
                task.cancel()


async def refuse(error: KbError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request, or a WebSocket that is not accepted yet, with a problem."""
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": NO_LONGER_VALID})
        return
    await problems.of_error(error)(scope, receive, send)
