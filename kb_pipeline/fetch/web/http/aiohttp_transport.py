"""aiohttp as the HTTP engine of a refresh: the only module that imports it.

A known page mostly answers that it is unchanged, so what counts is the cost of one small exchange: aiohttp takes a
third of Scrapy's time. It gives the same guarantees: only judged addresses are connected to, certificates are verified,
redirects, cookies and the environment's proxies are ignored, time and size are bounded.
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

from kb_pipeline.fetch.web.http.client import ACCEPT, FetchError, Request, Response, Transport, header_texts
from kb_pipeline.fetch.web.http.content_encoding import ACCEPT_ENCODING, decoded
from kb_pipeline.fetch.web.http.ssrf_guard import refusal
from kb_pipeline.fetch.web.rules import CrawlRules
from kb_pipeline.urls import hostname_of

_CONNECTIONS = 64
_MAX_HEADERS = 256
_MOST_ANSWERS = 16
_TOO_LARGE = ("Got more than", "Too many headers")
"""How aiohttp says that a limit on headers was passed; it has no exception of its own that reaches us."""
_NO_BODY = frozenset({204, 304})


class _Blocked(OSError):
    """The address must not be connected to."""


class _EndlessAnswers(aiohttp.ClientError):
    """One request got answer after answer: interim ones (1xx), of which aiohttp would read as many as come."""


class _Responses(ResponseHandler):
    """aiohttp's reader of answers, with a bound on those that wait to be read."""

    def data_received(self, data: bytes) -> None:
        """Give up where more answers come than there are requests."""
        super().data_received(data)
        if len(self) > _MOST_ANSWERS and self.transport is not None:
            self.transport.abort()
            self.set_exception(_EndlessAnswers(f"more than {_MOST_ANSWERS} answers to one request"))


class _GuardedResolver(AbstractResolver):
    """Resolves a name and lets only judged addresses through to the connection."""

    def __init__(self, allowed_networks: tuple[str, ...], proxy: str) -> None:
        self._allowed_networks, self._proxy = allowed_networks, hostname_of(proxy) if proxy else ""
        self.proxy_addresses: set[str] = set()
        self._threaded = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses that may be fetched."""
        found = await self._threaded.resolve(host, port, family)
        if host == self._proxy:
            self.proxy_addresses.update(address["host"] for address in found)
            return found
        refusals = [refusal(address["host"], self._allowed_networks) for address in found]
        judged = [address for address, why in zip(found, refusals, strict=True) if why is None]
        if not judged and refusals:
            raise _Blocked(f"{host}: {refusals[-1]}")
        return judged

    async def close(self) -> None:
        """Nothing is held."""


@asynccontextmanager
async def transport(rules: CrawlRules) -> AsyncIterator[Transport]:
    """Open connections by the rules for as long as the context lasts."""
    resolver = _GuardedResolver(rules.allowed_networks, rules.proxy)
    if rules.proxy:
        resolver.proxy_addresses.add(hostname_of(rules.proxy).strip("[]"))

    def judged_socket(address: aiohttp.AddrInfoType) -> socket.socket:
        # Every connection begins here, also those to IP literals, about which no resolver is asked. Through a proxy,
        # nothing else is connected to; where it is sent has been judged before.
        family, kind, protocol, _, place = address
        if str(place[0]) in resolver.proxy_addresses:
            return socket.socket(family, kind, protocol)
        if why := refusal(str(place[0]), rules.allowed_networks):
            raise _Blocked(f"{place[0]}: {why}")
        return socket.socket(family, kind, protocol)

    connector = aiohttp.TCPConnector(
        limit=_CONNECTIONS,
        resolver=resolver,
        ttl_dns_cache=None,  # resolved once
        socket_factory=judged_socket,
    )
    # aiohttp has no place to name the reader of answers.
    connector._factory = functools.partial(_Responses, loop=asyncio.get_running_loop())  # type: ignore[assignment]
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
        # A request on a connection that breaks would be sent again at once; every request has to wait for its turn.
        session._retry_connection = False
        yield _Getter(session, rules).get


class _Getter:
    """Makes single requests of one session."""

    def __init__(self, session: aiohttp.ClientSession, rules: CrawlRules) -> None:
        self._session, self._rules = session, rules

    async def get(self, get: Request) -> Response:
        """Make one request; raises FetchError."""
        try:
            # `encoded`: the key is the canonical spelling and is sent as it is.
            async with self._session.get(
                URL(get.url, encoded=True),
                headers=get.headers,
                allow_redirects=False,
                proxy=self._rules.proxy or None,
            ) as response:
                heard_at = monotonic()
                headers = header_texts(response.raw_headers)
                body = await self._body(get, response, headers)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _no_answer(error) from error
        return Response(get.url, response.status, headers, body, heard_at)

    async def _body(self, get: Request, response: aiohttp.ClientResponse, headers: Mapping[str, str]) -> bytes:
        if response.status in _NO_BODY:
            return b""
        if not get.wants_body(headers.get("content-type", "")):
            response.close()
            return b""
        limit = get.max_bytes or self._rules.max_body_bytes
        sent = await _sent_body(get, response, limit)
        return decoded(sent, headers.get("content-encoding", ""), limit, cut=get.cut)


async def _sent_body(get: Request, response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body as the server sent it; one that is too large is not waited for."""
    announced = response.content_length or 0
    pieces, size = [], 0
    if announced <= limit or get.cut:
        async for piece in response.content.iter_any():
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                break
    if max(size, announced) > limit:
        response.close()
        if not get.cut:
            raise FetchError("too_large", f"more than {limit} bytes as sent")
    return b"".join(pieces)[:limit]


def _no_answer(error: Exception) -> FetchError:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, _Blocked):
        return FetchError("blocked_address", str(cause))
    return FetchError(_reason(error), f"{type(error).__name__}: {error}"[:500])


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timeout" if isinstance(error, aiohttp.ServerTimeoutError) else "too_slow"
    if isinstance(error, _EndlessAnswers):
        return "headers_too_large"
    if isinstance(error, aiohttp.ClientResponseError) and error.message.startswith(_TOO_LARGE):
        return "headers_too_large"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "truncated"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "dns"
    if isinstance(error, (aiohttp.ClientSSLError, ssl.SSLError)):
        return "tls"
    return "connection"
