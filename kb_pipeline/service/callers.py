"""Who sends a request: the token that it shows, checked before anything else is read, and as long as it is answered."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

import anyio
from fastapi import Depends
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from kb_pipeline.allowance import Allowance
from kb_pipeline.errors import KbError, KeyRefused
from kb_pipeline.installation import Installation
from kb_pipeline.request_context import current_request
from kb_pipeline.service.concurrency import OPERATOR, Concurrency
from kb_pipeline.service.credentials import token_of
from kb_pipeline.service.exchanges import Exchange, Validity, refuse, run_while_valid
from kb_pipeline.service.rate_headers import rate_headers

_THREADS = 8
"""That recognise callers: others are left to requests, and hashing strangers' keys takes 64 MiB in each."""
_NOTHING_SENT = "is missing: send the header 'Authorization: Bearer kb_...'"


class Authentication:
    """ASGI middleware that opens the installation for the holder of a request's token, and refuses all others.

    It comes before routing, so that who is not known learns nothing of what there is. Whatever it wraps finds the
    installation in the state of the scope, `scope["state"]["home"]`, and need not look at tokens or rates. A response
    or WebSocket that is still under way a moment after its caller's token was revoked is ended.
    """

    def __init__(self, app: ASGIApp, home: Installation, public: Collection[str]) -> None:
        self._app, self._home, self._public = app, home, frozenset(public)
        self._validity = Validity(home.acting_as)
        self._threads = anyio.CapacityLimiter(_THREADS)
        limits = home.settings.service
        self._concurrency = Concurrency(limits.max_concurrent_requests, limits.max_streams)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401, 429 or 503, or pass the request on, with the opened installation in its state."""
        if scope["type"] not in ("http", "websocket") or scope["path"] in self._public:
            await self._app(scope, receive, send)
            return
        token = token_of(scope)
        try:
            if token is None:
                raise KeyRefused(_NOTHING_SENT)
            home, allowances = await anyio.to_thread.run_sync(self._admit, token, limiter=self._threads)
            place = await self._concurrency.enter(home.caller.tenant or OPERATOR)
        except KbError as error:
            await refuse(error, scope, receive, send)
            return
        scope.setdefault("state", {})["home"] = home
        if (current := current_request.get()) is not None:
            current.tenant = home.caller.tenant
        exchange = Exchange(scope, receive, send, rate_headers(allowances))
        try:
            await run_while_valid(
                lambda answer: self._app(scope, receive, answer), exchange, place, self._validity, token
            )
        finally:
            place.leave()

    def _admit(self, token: str) -> tuple[Installation, tuple[Allowance, ...]]:
        home = self._home.acting_as(token)
        return home, home.count_request()


async def _home(connection: HTTPConnection) -> Installation:
    opened: Installation = connection.state.home
    return opened


HomeOfCaller = Annotated[Installation, Depends(_home)]
"""The installation, opened for whoever sent the request or opened the WebSocket."""
