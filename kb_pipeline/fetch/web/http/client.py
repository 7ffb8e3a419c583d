"""One GET as the crawl sees it: a request, an answer or a reason, and the polite way to make it."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import monotonic

from kb_pipeline.fetch.web.http.media_types import media_type
from kb_pipeline.fetch.web.http.ssrf_guard import refusal
from kb_pipeline.fetch.web.politeness.host_throttle import (
    LONGEST_WAIT_S,
    AskedToWait,
    HostClocks,
    HostThrottle,
    Stopped,
)
from kb_pipeline.fetch.web.reasons import is_transient, is_transient_status
from kb_pipeline.fetch.web.rules import CrawlRules
from kb_pipeline.host_scheduler import LONGEST_RETRY_AFTER_S
from kb_pipeline.urls import hostname_of

MAX_BACKOFF_S = 60.0
ACCEPT = "text/html,application/xhtml+xml,text/plain,text/markdown;q=0.9,*/*;q=0.5"
_NOBODY_THERE = {"timeout", "connection", "dns", "tls"}
_BUSY = {429, 503}


@dataclass(frozen=True, slots=True)
class Request:
    """A request to make."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    media_types: frozenset[str] | None = None
    """Types worth a body; the download of others stops at the headers. None: any."""
    max_bytes: int = 0
    cut: bool = False
    """Whether to keep the first max_bytes of a larger body instead of refusing it."""

    def wants_body(self, content_type: str) -> bool:
        """Whether a response that announces this type is worth its body."""
        kind = media_type(content_type)
        return self.media_types is None or not kind or kind in self.media_types


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response, its body decompressed."""

    url: str
    status: int
    headers: Mapping[str, str]
    """Names in lower case; several values joined by a comma."""
    body: bytes
    heard_at: float
    """When the headers arrived, by the monotonic clock."""
    attempts: int = 1


class FetchError(Exception):
    """A request got no complete response; `reason` is one of the reason codes."""

    def __init__(self, reason: str, message: str, attempts: int = 1) -> None:
        super().__init__(message)
        self.reason, self.attempts = reason, attempts


Transport = Callable[[Request], Awaitable[Response]]


class PoliteClient:
    """Makes requests in their host's turn, and again with backoff when that can help.

    `transport` may be exchanged between two requests: turns and counts go on.
    """

    def __init__(self, transport: Transport, clocks: HostClocks, rules: CrawlRules) -> None:
        self.transport = transport
        self._clocks, self._rules = clocks, rules
        self._stopped = asyncio.Event()
        self.requests = 0
        self.body_bytes = 0

    def stop(self) -> None:
        """Make no new request: waits end with Stopped, retries with the failure before them."""
        self._stopped.set()
        self._clocks.stop()

    async def get(self, request: Request, read: Callable[[Response], None] | None = None) -> Response:
        """The answer after as many attempts as the rules allow; raises NoAnswer or Stopped.

        `read` is called with each answer before another request to its host may begin: what it says may change when.
        """
        clock = self._clocks.of(hostname_of(request.url))
        attempt = 1
        while True:
            try:
                answer = await self._once(request, clock, read)
            except FetchError as failure:
                failure.attempts += attempt - 1
                if not (is_transient(failure.reason) and self._may_retry(attempt, clock)):
                    raise
                last: Response | FetchError = failure
            else:
                last = answer if attempt == 1 else replace(answer, attempts=attempt)
                asked_s = retry_after_s(answer.headers) if is_transient_status(answer.status) else 0.0
                clock.not_before(asked_s)
                is_final = not is_transient_status(answer.status)
                if is_final or asked_s > LONGEST_WAIT_S or not self._may_retry(attempt, clock):
                    return last
            if not await self._pause(self._backoff_s(attempt)):
                return _given_up(last)
            attempt += 1

    async def _once(self, request: Request, clock: HostThrottle, read: Callable[[Response], None] | None) -> Response:
        if self._rules.proxy:
            await self._judge(hostname_of(request.url))
        try:
            await clock.begin()
        except AskedToWait as asked:
            raise FetchError("asked_to_wait", str(asked), attempts=0) from asked
        began_at, answer = monotonic(), None
        self.requests += 1
        try:
            answer = await self.transport(request)
            clock.failures_in_a_row = 0
            if read is not None:
                read(answer)
        except FetchError as failure:
            clock.failures_in_a_row += failure.reason in _NOBODY_THERE
            raise
        finally:
            heard_at = answer.heard_at if answer is not None else None
            clock.end(began_at, heard_at, busy=answer is not None and answer.status in _BUSY)
        self.body_bytes += len(answer.body)
        return answer

    async def _judge(self, host: str) -> None:
        """Judge every address of a host that a proxy is going to be sent to: its own look-up is beyond our reach."""
        name = host.strip("[]")
        try:
            found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except OSError as error:
            raise FetchError("dns", f"{name} does not resolve: {error}", attempts=0) from error
        for address in {str(place[0]) for *_, place in found}:
            if why := refusal(address, self._rules.allowed_networks):
                raise FetchError("blocked_address", f"{name}: {why}", attempts=0)

    def _may_retry(self, attempt: int, clock: HostThrottle) -> bool:
        return attempt <= self._rules.retries and not clock.is_down and not self._stopped.is_set()

    def _backoff_s(self, attempt: int) -> float:
        # Jitter only lengthens: several crawls that failed together must not come back together, nor early.
        longest = self._rules.backoff_s * 2.0 ** (attempt - 1)
        return min(MAX_BACKOFF_S, longest) * (1 + random.random() / 2)  # noqa: S311

    async def _pause(self, seconds: float) -> bool:
        """Whether the whole pause passed without a stop."""
        try:
            await asyncio.wait_for(self._stopped.wait(), seconds)
        except TimeoutError:
            return True
        return False


def _given_up(last: Response | FetchError) -> Response:
    if isinstance(last, FetchError):
        raise last
    return last


def header_texts(fields: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by name in lower case, several values joined by a comma, as text that can be stored.

    Servers send any bytes; what is not UTF-8 is replaced, since one odd header must not end a crawl. Lines of
    X-Robots-Tag stay lines: an agent that one of them names is not addressed by the next.
    """
    headers: dict[str, str] = {}
    for raw_name, raw_value in fields:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("utf-8", "replace")
        joint = "\n" if name == "x-robots-tag" else ","
        headers[name] = f"{headers[name]}{joint}{value}" if name in headers else value
    return headers


def retry_after_s(headers: Mapping[str, str]) -> float:
    """Seconds the server asks to be left alone; 0 when it does not say."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value), LONGEST_RETRY_AFTER_S)
    try:
        until = parsedate_to_datetime(value)
        seconds = (until.astimezone(UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return 0.0
    return max(seconds, 0.0)


__all__ = ["FetchError", "PoliteClient", "Request", "Response", "Stopped", "Transport", "retry_after_s"]
