"""A GET request, its response or error, and the client that sends it politely."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import monotonic

from kb_pipeline.fetch.web.http.ssrf_guard import refusal
from kb_pipeline.fetch.web.politeness.host_throttle import (
    MAX_WAIT_S,
    AskedToWait,
    HostThrottle,
    HostThrottles,
)
from kb_pipeline.fetch.web.reasons import is_transient, is_transient_status
from kb_pipeline.fetch.web.rules import CrawlRules
from kb_pipeline.host_scheduler import MAX_RETRY_AFTER_S
from kb_pipeline.page_kind import may_be_page
from kb_pipeline.urls import hostname_of

MAX_BACKOFF_S = 60.0
ACCEPT = "text/html,application/xhtml+xml,text/plain,text/markdown;q=0.9,*/*;q=0.5"
_UNREACHABLE = {"timeout", "connection", "dns", "tls"}
_BUSY_STATUSES = {429, 503}


@dataclass(frozen=True, slots=True)
class Request:
    """A GET request."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    pages_only: bool = False
    """Whether only the bodies of pages and texts are wanted; the download of others stops at the headers."""
    max_bytes: int = 0
    truncate: bool = False
    """Whether to keep the first max_bytes of a larger body instead of failing."""

    def accepts(self, content_type: str) -> bool:
        """Return whether the body of a response with this Content-Type is wanted."""
        return not self.pages_only or may_be_page(content_type, self.url)


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response, its body decompressed."""

    url: str
    status: int
    headers: Mapping[str, str]
    """By name in lower case; several values are joined by a comma."""
    body: bytes
    responded_at: float
    """When the headers arrived, on the monotonic clock."""
    attempts: int = 1


class FetchError(Exception):
    """A request got no complete response; `reason` is one of the reason codes."""

    def __init__(self, reason: str, message: str, attempts: int = 1) -> None:
        super().__init__(message)
        self.reason, self.attempts = reason, attempts


Transport = Callable[[Request], Awaitable[Response]]


class PoliteClient:
    """Sends requests when their host's throttle permits, and retries with backoff when that can help.

    `transport` may be replaced between two requests: throttles and counts persist.
    """

    def __init__(self, transport: Transport, throttles: HostThrottles, rules: CrawlRules) -> None:
        self.transport = transport
        self._throttles, self._rules = throttles, rules
        self._stopped = asyncio.Event()
        self.requests = 0
        self.body_bytes = 0

    def stop(self) -> None:
        """Send no new request: waits end with CrawlStopped, retries with the result of the attempt before."""
        self._stopped.set()
        self._throttles.stop()

    async def get(self, request: Request, on_response: Callable[[Response], None] | None = None) -> Response:
        """Return the response, after as many attempts as the rules allow.

        Args:
            request: what to send.
            on_response: called with the response of each attempt, before the next request to its host may start: it may
                change when that is.

        Raises:
            FetchError: no attempt got a complete response.
            CrawlStopped: the crawl was stopped while the request waited for its host.
        """
        throttle = self._throttles.of(hostname_of(request.url))
        attempt = 1
        while True:
            try:
                response = await self._attempt(request, throttle, on_response)
            except FetchError as error:
                error.attempts += attempt - 1
                if not (is_transient(error.reason) and self._may_retry(attempt, throttle)):
                    raise
                last: Response | FetchError = error
            else:
                last = response if attempt == 1 else replace(response, attempts=attempt)
                asked_to_wait_s = retry_after_s(response.headers) if is_transient_status(response.status) else 0.0
                throttle.pause(asked_to_wait_s)
                is_final = not is_transient_status(response.status)
                if is_final or asked_to_wait_s > MAX_WAIT_S or not self._may_retry(attempt, throttle):
                    return last
            if not await self._pause(self._backoff_s(attempt)):
                return _response_or_raise(last)
            attempt += 1

    async def _attempt(
        self, request: Request, throttle: HostThrottle, on_response: Callable[[Response], None] | None
    ) -> Response:
        if self._rules.proxy:
            await self._check_addresses(hostname_of(request.url))
        try:
            await throttle.acquire()
        except AskedToWait as error:
            raise FetchError("asked_to_wait", str(error), attempts=0) from error
        sent_at, response = monotonic(), None
        self.requests += 1
        try:
            response = await self.transport(request)
            throttle.consecutive_failures = 0
            if on_response is not None:
                on_response(response)
        except FetchError as error:
            throttle.consecutive_failures += error.reason in _UNREACHABLE
            raise
        finally:
            responded_at = response.responded_at if response is not None else None
            throttle.release(sent_at, responded_at, busy=response is not None and response.status in _BUSY_STATUSES)
        self.body_bytes += len(response.body)
        return response

    async def _check_addresses(self, host: str) -> None:
        """Check every address of a host before a request goes to a proxy, whose own look-up cannot be checked."""
        name = host.strip("[]")
        try:
            found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except OSError as error:
            raise FetchError("dns", f"{name} does not resolve: {error}", attempts=0) from error
        for address in {str(place[0]) for *_, place in found}:
            if reason := refusal(address, self._rules.allowed_networks):
                raise FetchError("blocked_address", f"{name}: {reason}", attempts=0)

    def _may_retry(self, attempt: int, throttle: HostThrottle) -> bool:
        return attempt <= self._rules.retries and not throttle.is_down and not self._stopped.is_set()

    def _backoff_s(self, attempt: int) -> float:
        # Jitter only lengthens the wait: crawls that failed together must not retry together, nor early.
        longest = self._rules.backoff_s * 2.0 ** (attempt - 1)
        return min(MAX_BACKOFF_S, longest) * (1 + random.random() / 2)  # noqa: S311

    async def _pause(self, seconds: float) -> bool:
        """Sleep; return whether the whole pause passed without a stop."""
        try:
            await asyncio.wait_for(self._stopped.wait(), seconds)
        except TimeoutError:
            return True
        return False


def _response_or_raise(last: Response | FetchError) -> Response:
    if isinstance(last, FetchError):
        raise last
    return last


def decode_headers(fields: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers as text, by name in lower case, several values joined by a comma.

    Servers send any bytes; what is not UTF-8 is replaced, since one odd header must not end a crawl. Lines of
    X-Robots-Tag stay separate lines: an agent that one of them names is not addressed by the next. So do those of
    Set-Cookie, whose dates have commas.
    """
    headers: dict[str, str] = {}
    for raw_name, raw_value in fields:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("utf-8", "replace")
        joint = "\n" if name in ("x-robots-tag", "set-cookie") else ","
        headers[name] = f"{headers[name]}{joint}{value}" if name in headers else value
    return headers


def retry_after_s(headers: Mapping[str, str]) -> float:
    """Return the seconds of a Retry-After header; 0 without one."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value), MAX_RETRY_AFTER_S)
    try:
        until = parsedate_to_datetime(value)
        seconds = (until.astimezone(UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return 0.0
    return max(seconds, 0.0)
