"""`/mcp`: the protocol's streamable HTTP transport, one request a message, for the holders of tokens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from typing import Any

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kb_pipeline.installation import Installation
from kb_pipeline.service import problems
from kb_pipeline.service.hosts import is_own_host, is_own_origin, own_url
from kb_pipeline.service.mcp.server import Context, KbServer
from kb_pipeline.settings import Settings

PATH = "/mcp"
METADATA_PATH = f"/.well-known/oauth-protected-resource{PATH}"
"""Where clients find how to get a token (RFC 9728)."""
_SCOPES = ["read", "build", "manage"]
_MAX_BYTES = 1 << 20
"""Of one message: arguments, never files."""
_WHAT_TO_DO = {
    HTTPStatus.NOT_ACCEPTABLE: "send the header 'Accept: application/json, text/event-stream'",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: f"a message takes at most {_MAX_BYTES:,} bytes",
    HTTPStatus.BAD_REQUEST: "send one JSON-RPC message with the header 'Content-Type: application/json'",
}
_OTHER_HOST = "this service is not known by that {header}; its operator lists its names in KB_ALLOWED_HOSTS"


class McpEndpoint:
    """ASGI application of one path. Every request stands alone: any process may answer it, and none keeps a session."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sessions = StreamableHTTPSessionManager(
            KbServer(_home_of).lowlevel,
            json_response=True,
            stateless=True,
            security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),  # checked below
            max_request_body_size=_MAX_BYTES,
        )

    def run(self) -> AbstractAsyncContextManager[None]:
        """Return what must be entered while the application answers; once."""
        return self._sessions.run()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one message, or say why not: as JSON-RPC what the protocol knows, all else as a problem."""
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
        else:
            await self._sessions.handle_request(scope, receive, _Problems(scope, receive, send))

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if not is_own_host(self._settings, headers.get("host", "")):
            return problems.of_status(HTTPStatus.MISDIRECTED_REQUEST, _OTHER_HOST.format(header="Host"))
        origin = headers.get("origin")
        if origin is not None and not is_own_origin(self._settings, origin):
            return problems.of_status(HTTPStatus.FORBIDDEN, _OTHER_HOST.format(header="Origin"))
        if scope["method"] != "POST":  # there is no session to listen to or to end
            return problems.of_status(HTTPStatus.METHOD_NOT_ALLOWED, "send messages by POST", {"Allow": "POST"})
        return None


class ResourceMetadata:
    """ASGI middleware that tells clients without a valid token, in the refusal, where to find how to get one."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the address of the metadata to a 401 of this path."""
        if scope["type"] != "http" or scope["path"] != PATH:
            await self._app(scope, receive, send)
            return

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == HTTPStatus.UNAUTHORIZED:
                headers = MutableHeaders(raw=message["headers"])
                url = _url(self._settings, scope) + METADATA_PATH
                headers["WWW-Authenticate"] = f'{headers.get("WWW-Authenticate", "Bearer")}, resource_metadata="{url}"'
            await send(message)

        await self._app(scope, receive, told)


def metadata_endpoint(
    settings: Settings, authorization_servers: Sequence[str] = ()
) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint that says for which resource tokens are, and who gives them; anybody may ask."""

    async def answer(request: Request) -> Response:
        if not is_own_host(settings, request.headers.get("host", "")):
            return problems.of_status(HTTPStatus.MISDIRECTED_REQUEST, _OTHER_HOST.format(header="Host"))
        said = {
            "resource": _url(settings, request.scope) + PATH,
            "authorization_servers": list(authorization_servers),
            "scopes_supported": _SCOPES,
            "bearer_methods_supported": ["header"],
            "resource_name": "kb_pipeline",
        }
        return JSONResponse({name: value for name, value in said.items() if value})

    return answer


def _url(settings: Settings, scope: Scope) -> str:
    host = Headers(scope=scope).get("host", "")
    return own_url(settings, scope["scheme"], host if is_own_host(settings, host) else "localhost")


def _home_of(context: Context) -> Installation:
    request: Any = context.request
    home: Installation = request.state.home
    return home


class _Problems:
    """Sends an answer on, one that refuses in plain words as a problem."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            is_json = Headers(raw=message["headers"]).get("content-type", "").startswith("application/json")
            if message["status"] >= HTTPStatus.BAD_REQUEST and not is_json:
                self._status = message["status"]
                return
        if self._status is None:
            await self._send(message)
        elif not message.get("more_body", False):
            refusal = problems.of_status(self._status, _WHAT_TO_DO.get(HTTPStatus(self._status)))
            await refusal(self._scope, self._receive, self._send)
