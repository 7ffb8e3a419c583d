"""Who sends a request: the bearer token of its Authorization header, checked before anything else is read."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from fastapi import Depends
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from kb_pipeline.errors import KbError, KeyRefused
from kb_pipeline.installation import Installation
from kb_pipeline.request_context import current_request
from kb_pipeline.service import problems

_NOTHING_SENT = "is missing: send the header 'Authorization: Bearer kb_...'"


class Authentication:
    """ASGI middleware that opens the installation for the holder of a request's token, and refuses all others.

    It comes before routing, so that who is not known learns nothing of what there is.
    """

    def __init__(self, app: ASGIApp, home: Installation, public: Collection[str]) -> None:
        self._app, self._home, self._public = app, home, frozenset(public)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 or pass the request on, with the opened installation in its state."""
        if scope["type"] not in ("http", "websocket") or scope["path"] in self._public:
            await self._app(scope, receive, send)
            return
        kind, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        try:
            if kind.lower() != "bearer" or not token.strip():
                raise KeyRefused(_NOTHING_SENT)
            home = await run_in_threadpool(self._home.acting_as, token.strip())
        except KbError as error:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await problems.of_error(error)(scope, receive, send)
            return
        scope.setdefault("state", {})["home"] = home
        if (current := current_request.get()) is not None:
            current.tenant = home.caller.tenant
        await self._app(scope, receive, send)


async def _home(request: HTTPConnection) -> Installation:
    opened: Installation = request.state.home
    return opened


HomeOfCaller = Annotated[Installation, Depends(_home)]
"""The installation, opened for whoever sent the request."""
