"""Adds to problems what clients of other services look for: OpenAI's `error`, Dify's `error_code` and `error_msg`."""

from __future__ import annotations

import http
import json

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kb_pipeline.model import JsonObject
from kb_pipeline.service.problems import MEDIA_TYPE

OPENAI, DIFY = "/v1/", "/dify/"
_BAD_HEADER, _REFUSED, _UNKNOWN_KB = 1001, 1002, 2001
"""Codes of Dify's contract for external knowledge."""


class ErrorShapes:
    """ASGI wrapper around the whole application, so that whatever refuses a request, it is refused in that form."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and add to the problem that it is answered with, if it is."""
        if scope["type"] != "http" or not scope["path"].startswith((OPENAI, DIFY)):
            await self._app(scope, receive, send)
            return
        started: Message | None = None
        parts: list[bytes] = []

        async def shaped(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                if Headers(raw=message["headers"]).get("content-type") == MEDIA_TYPE:
                    started = message  # its length is not known yet
                    return
            elif started is not None and message["type"] == "http.response.body":
                parts.append(message.get("body", b""))
                if message.get("more_body"):
                    return
                body = json.dumps(_shaped(scope, json.loads(b"".join(parts))), ensure_ascii=False).encode()
                MutableHeaders(raw=started["headers"])["content-length"] = str(len(body))
                await send(started)
                await send({"type": "http.response.body", "body": body})
                return
            await send(message)

        await self._app(scope, receive, shaped)


def _shaped(scope: Scope, problem: JsonObject) -> JsonObject:
    if scope["path"].startswith(OPENAI):
        return problem | {"error": _openai_error(problem)}
    return problem | {"error_code": _dify_code(scope, problem), "error_msg": problem["detail"]}


def _openai_error(problem: JsonObject) -> JsonObject:
    found = problem.get("errors") or [{}]
    pointer = str(found[0].get("pointer", "")).strip("/").replace("/", ".")
    return {
        "message": problem["detail"],
        "type": _openai_type(problem["status"]),
        "param": pointer or None,
        "code": str(problem["type"]).rpartition(":")[2].replace("-", "_"),
    }


def _openai_type(status: int) -> str:
    if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        return "server_error"
    return {
        http.HTTPStatus.UNAUTHORIZED: "authentication_error",
        http.HTTPStatus.FORBIDDEN: "permission_error",
        http.HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
    }.get(http.HTTPStatus(status), "invalid_request_error")


def _dify_code(scope: Scope, problem: JsonObject) -> int:
    """Return the code of Dify's contract, or the HTTP status where it has none."""
    status = problem["status"]
    if status == http.HTTPStatus.NOT_FOUND:
        return _UNKNOWN_KB
    if status in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN):
        sent = Headers(scope=scope).get("authorization", "").split()
        is_bearer = len(sent) == 2 and sent[0].lower() == "bearer"
        return _REFUSED if is_bearer else _BAD_HEADER
    return int(status)
