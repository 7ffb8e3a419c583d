"""aiohttp as the HTTP engine for known pages: the only module that imports it.

Most responses for known pages say that they are unchanged, so the cost of one small exchange matters: aiohttp takes a
third of Scrapy's time. It gives the same guarantees: it connects only to allowed addresses, verifies certificates,
ignores redirects, cookies and the environment's proxies, and bounds time and size.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from time import monotonic

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from kb_pipeline.fetch.web.http.client import ACCEPT, FetchError, Request, Response, Transport, decode_headers
from kb_pipeline.fetch.web.http.content_encoding import ACCEPT_ENCODING, decode_body
from kb_pipeline.fetch.web.http.ssrf_guard import refusal
from kb_pipeline.fetch.web.rules import CrawlRules
from kb_pipeline.urls import hostname_of

_CONNECTIONS = 64
_MAX_HEADERS = 256
_MAX_RESPONSES = 16
_TOO_LARGE_MESSAGES = ("Got more than", "Too many headers")
"""How aiohttp's messages begin when a limit on headers is exceeded; it raises no exception of its own for that."""
_NO_BODY = frozenset({204, 304})


class _AddressBlocked(OSError):
    """The address guard forbids connecting to this address."""


class _TooManyResponses(aiohttp.ClientError):
    """One request got response after response: interim ones (1xx), of which aiohttp would read any number."""


class _BoundedResponseHandler(ResponseHandler):
    """aiohttp's response handler, with a limit on the responses that wait to be read."""

    def data_received(self, data: bytes) -> None:
        """Close the connection when more responses arrive than there are requests."""
        super().data_received(data)
        if len(self) > _MAX_RESPONSES and self.transport is not None:
            self.transport.abort()
            self.set_exception(_TooManyResponses(f"more than {_MAX_RESPONSES} responses to one request"))


class _GuardedResolver(AbstractResolver):
    """Resolves a name and passes only allowed addresses on to the connection."""

    def __init__(self, allowed_networks: tuple[str, ...], proxy: str) -> None:
        self._allowed_networks, self._proxy = allowed_networks, hostname_of(proxy) if proxy else ""
        self.proxy_addresses: set[str] = set()
        self._threaded = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses that may be fetched; raise _AddressBlocked if there is none."""
        addresses = await self._threaded.resolve(host, port, family)
        if host == self._proxy:
            self.proxy_addresses.update(address["host"] for address in addresses)
            return addresses
        refusals = [refusal(address["host"], self._allowed_networks) for address in addresses]
        allowed = [address for address, why in zip(addresses, refusals, strict=True) if why is None]
        if not allowed and refusals:
            raise _AddressBlocked(f"{host}: {refusals[-1]}")
        return allowed

    async def close(self) -> None:
        """Do nothing: the resolver holds no resources."""


@asynccontextmanager
async def transport(rules: CrawlRules) -> AsyncIterator[Transport]:
    """Yield a transport that obeys the rules, with connections that are open for as long as the context lasts."""
    resolver = _GuardedResolver(rules.allowed_networks, rules.proxy)
    if rules.proxy:
        resolver.proxy_addresses.add(hostname_of(rules.proxy).strip("[]"))

    def guarded_socket(address: aiohttp.AddrInfoType) -> socket.socket:
        # Every connection begins here, also those to IP literals, which no resolver sees. With a proxy, only the proxy
        # is connected to; the client has checked the addresses of the request's host before.
        family, kind, protocol, _, socket_address = address
        if str(socket_address[0]) in resolver.proxy_addresses:
            return socket.socket(family, kind, protocol)
        if why := refusal(str(socket_address[0]), rules.allowed_networks):
            raise _AddressBlocked(f"{socket_address[0]}: {why}")
        return socket.socket(family, kind, protocol)

    connector = aiohttp.TCPConnector(
        limit=_CONNECTIONS,
        resolver=resolver,
        ttl_dns_cache=None,  # resolved once
        socket_factory=guarded_socket,
    )
    # aiohttp has no setting for the response handler.
    connector._factory = functools.partial(_BoundedResponseHandler, loop=asyncio.get_running_loop())  # type: ignore[assignment]
    async with aiohttp.ClientSession(
        connector=connector,
        headers={"User-Agent": rules.user_agent, "Accept": ACCEPT, "Accept-Encoding": ACCEPT_ENCODING},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        timeout=aiohttp.ClientTimeout(
            total=rules.deadline_s,
            connect=rules.timeout_s,
            sock_read=rules.timeout_s,
            # aiohttp rounds longer limits up to whole seconds of its own choice.
            ceil_threshold=rules.deadline_s + 1,
        ),
        max_line_size=rules.max_header_bytes,
        max_field_size=rules.max_header_bytes,
        max_headers=_MAX_HEADERS,
    ) as session:
        # aiohttp would resend a request at once when a connection breaks; every request waits for its host's permit.
        session._retry_connection = False
        yield _Client(session, rules).get


class _Client:
    """Sends single requests of one session."""

    def __init__(self, session: aiohttp.ClientSession, rules: CrawlRules) -> None:
        self._session, self._rules = session, rules

    async def get(self, request: Request) -> Response:
        """Send one request and return its response; raise FetchError."""
        try:
            # `encoded`: the canonical URL is sent exactly as it is.
            async with self._session.get(
                URL(request.url, encoded=True),
                headers=request.headers,
                allow_redirects=False,
                proxy=self._rules.proxy or None,
            ) as response:
                responded_at = monotonic()
                headers = decode_headers(response.raw_headers)
                body = await self._body(request, response, headers)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _fetch_error(error) from error
        return Response(request.url, response.status, headers, body, responded_at)

    async def _body(self, request: Request, response: aiohttp.ClientResponse, headers: Mapping[str, str]) -> bytes:
        if response.status in _NO_BODY:
            return b""
        if not request.accepts(headers.get("content-type", "")):
            response.close()
            return b""
        limit = request.max_bytes or self._rules.max_body_bytes
        sent = await _read_body(request, response, limit)
        return decode_body(sent, headers.get("content-encoding", ""), limit, truncate=request.truncate)


async def _read_body(request: Request, response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Return the body as the server sent it; stop reading one that is too large."""
    announced = response.content_length or 0
    chunks, size = [], 0
    if announced <= limit or request.truncate:
        async for chunk in response.content.iter_any():
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                break
    if max(size, announced) > limit:
        response.close()
        if not request.truncate:
            raise FetchError("too_large", f"more than {limit} bytes as sent")
    return b"".join(chunks)[:limit]


def _fetch_error(error: Exception) -> FetchError:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, _AddressBlocked):
        return FetchError("blocked_address", str(cause))
    return FetchError(_reason(error), f"{type(error).__name__}: {error}"[:500])


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timeout" if isinstance(error, aiohttp.ServerTimeoutError) else "too_slow"
    if isinstance(error, _TooManyResponses):
        return "headers_too_large"
    if isinstance(error, aiohttp.ClientResponseError) and error.message.startswith(_TOO_LARGE_MESSAGES):
        return "headers_too_large"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "truncated"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "dns"
    if isinstance(error, (aiohttp.ClientSSLError, ssl.SSLError)):
        return "tls"
    return "connection"
