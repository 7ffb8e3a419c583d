"""Follows every request from its headers to the last byte of its answer: id, trace, log line, metrics."""

from __future__ import annotations

import logging
import re
import secrets
import time
import uuid

from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kb_pipeline.request_context import RequestContext, current_request
from kb_pipeline.service.metrics import ServiceMetrics

logger = logging.getLogger(__name__)

_REQUEST_ID = "X-Request-ID"
_GOOD_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked every few seconds: counted, and logged only where they fail."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_NONE = "(none)"
"""In place of a route or method that is none of ours: as labels there could be any number of them."""
_CLIENT_GONE = 499
"""In place of a status, where the client left before there was one; nginx' number for it."""


class RequestLog:
    """ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp, metrics: ServiceMetrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; its answer carries `X-Request-ID`, the client's own if that is a plain word."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), _CLIENT_GONE
        request = _context(Headers(scope=scope))

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[_REQUEST_ID] = request.request_id
            await send(message)

        token = current_request.set(request)
        try:
            await self._app(scope, receive, note_status)
        except Exception:
            status = 500
            raise
        finally:
            self._note(scope, request, status, time.perf_counter() - started)
            current_request.reset(token)

    def _note(self, scope: Scope, request: RequestContext, status: int, seconds: float) -> None:
        route = _route(scope)
        method = scope["method"] if scope["method"] in _METHODS else _NONE
        self._metrics.requests.labels(method, route, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        level = logging.WARNING if status >= 500 else logging.DEBUG if scope["path"] in _PROBES else logging.INFO
        fields = {"method": method, "route": route, "status": status, "ms": round(seconds * 1000, 1)}
        logger.log(level, "%s %s %d", method, route, status, extra={"fields": fields})


def _route(scope: Scope) -> str:
    """Return the template of the path that was asked for; a router's own template lacks the prefix it is under."""
    template = getattr(scope.get("route"), "path_format", None)
    if template is None:
        return _NONE
    prefix = scope["path"].removesuffix(template.format_map(scope.get("path_params", {})))
    return template if prefix == scope["path"] else f"{prefix}{template}"


def _context(headers: Headers) -> RequestContext:
    given = headers.get(_REQUEST_ID, "")
    request_id = given if _GOOD_ID.fullmatch(given) else uuid.uuid4().hex
    sent = get_current_span(TraceContextTextMapPropagator().extract(headers)).get_span_context()
    trace_id = f"{sent.trace_id:032x}" if sent.is_valid else secrets.token_hex(16)
    flags = int(sent.trace_flags) if sent.is_valid else 0
    return RequestContext(request_id, trace_id, f"00-{trace_id}-{secrets.token_hex(8)}-{flags:02x}")
