"""Where a request shows who sends it: the bearer token of its header, or of the WebSocket subprotocols."""

from __future__ import annotations

from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import Scope

SUBPROTOCOL = "kb.bearer"
"""Offered by a browser, which can set no header for a WebSocket, together with its token: `kb.bearer, kb_acme_...`."""


def _of_header(scope: Scope) -> str | None:
    kind, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
    return token.strip() or None if kind.lower() == "bearer" else None


def _of_subprotocols(scope: Scope) -> str | None:
    offered = scope.get("subprotocols", [])
    if scope["type"] != "websocket" or len(offered) < 2 or offered[0] != SUBPROTOCOL:
        return None
    token: str = offered[1]
    scope["subprotocols"] = [SUBPROTOCOL, *offered[2:]]  # nobody after this has to know
    return token


SOURCES: tuple[Callable[[Scope], str | None], ...] = (_of_header, _of_subprotocols)
"""Each returns the token that it finds, in this order; the session of a page's cookie will be one more."""


def token_of(scope: Scope) -> str | None:
    """Return the token that a request shows; None if it shows none."""
    return next((token for source in SOURCES if (token := source(scope)) is not None), None)
