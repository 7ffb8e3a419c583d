"""Scrapy as the HTTP engine of discovery: the only module that imports scrapy or twisted.

The crawler has its own frontier, throttles, robots rules, redirects and retries; Scrapy provides connections, TLS and
size limits. It joins the event loop that is already running, so that the crawler, which has revalidated its known pages
on that loop, continues there. Host names are resolved once, by a resolver that passes on only allowed addresses. IP
literals go through it too, since Twisted's HostnameEndpoint asks the reactor's resolver for those as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from time import monotonic
from typing import Any, cast

import scrapy
from OpenSSL import SSL
from scrapy import signals
from scrapy.core.downloader.handlers.http11 import (
    HTTP11DownloadHandler,
    _LenientHTTP11ClientFactory,
    _LenientHTTP11ClientProtocol,
)
from scrapy.crawler import AsyncCrawlerRunner, Crawler
from scrapy.exceptions import (
    CannotResolveHostError,
    DownloadCancelledError,
    DownloadFailedError,
    DownloadTimeoutError,
    ResponseDataLossError,
    StopDownload,
)
from scrapy.http import Headers, Request, Response
from scrapy.resolver import CachingHostnameResolver
from scrapy.utils.defer import maybe_deferred_to_future
from scrapy.utils.reactor import install_reactor
from twisted.internet.base import ReactorBase
from twisted.internet.defer import Deferred
from twisted.internet.error import VerifyError
from twisted.internet.interfaces import IAddress, IHostResolution, IResolutionReceiver
from twisted.python.failure import Failure
from twisted.web._newclient import HEADER, STATUS, HTTP11ClientProtocol
from twisted.web._newclient import Request as TxRequest
from twisted.web.iweb import IResponse

from kb_pipeline.fetch.web.http.client import ACCEPT, FetchError, Transport, decode_headers
from kb_pipeline.fetch.web.http.client import Request as HttpRequest
from kb_pipeline.fetch.web.http.client import Response as HttpResponse
from kb_pipeline.fetch.web.http.content_encoding import ACCEPT_ENCODING, decode_body
from kb_pipeline.fetch.web.http.ssrf_guard import refusal
from kb_pipeline.fetch.web.rules import CrawlRules
from kb_pipeline.urls import hostname_of

Work = Callable[[Transport], Awaitable[None]]
_TOTAL_CONCURRENCY = 64
_REACTOR = "twisted.internet.asyncioreactor.AsyncioSelectorReactor"
_DNS_CACHE_SIZE = 10_000
_RESOLVER_THREADS = 10


class _AddressFilter:
    """Passes on the addresses that may be fetched and records why the others may not."""

    def __init__(self, receiver: IResolutionReceiver, host: str, resolver: GuardedResolver) -> None:
        self._receiver: Any = receiver
        self._host, self._resolver = host, resolver

    def resolutionBegan(self, resolution: IHostResolution) -> None:  # noqa: N802 - Twisted's name
        self._receiver.resolutionBegan(resolution)

    def addressResolved(self, address: IAddress) -> None:  # noqa: N802
        # With a proxy, only the proxy is connected to; the client has checked the request's host before.
        is_proxy = self._host == self._resolver.proxy
        why = None if is_proxy else refusal(getattr(address, "host", ""), self._resolver.allowed_networks)
        if why is None:
            self._receiver.addressResolved(address)
        else:
            self._resolver.refused[self._host] = f"{self._host}: {why}"

    def resolutionComplete(self) -> None:  # noqa: N802
        self._receiver.resolutionComplete()


class GuardedResolver(CachingHostnameResolver):
    """Resolves a name once and passes only allowed addresses on to the connection."""

    allowed_networks: tuple[str, ...] = ()
    proxy = ""
    """The proxy's host name."""
    refused: dict[str, str] = {}  # noqa: RUF012 - one resolver a process, read by the transport

    def resolveHostName(  # noqa: N802
        self,
        resolutionReceiver: IResolutionReceiver,  # noqa: N803
        hostName: str,  # noqa: N803
        portNumber: int = 0,  # noqa: N803
        addressTypes: Sequence[type[IAddress]] | None = None,  # noqa: N803
        transportSemantics: str = "TCP",  # noqa: N803
    ) -> IHostResolution:
        """Resolve as Scrapy does, through the address filter."""
        address_filter = cast("IResolutionReceiver", _AddressFilter(resolutionReceiver, hostName, self))
        return super().resolveHostName(address_filter, hostName, portNumber, addressTypes, transportSemantics)


class HeadersTooLarge(Exception):
    """The headers of a response, with those of all interim ones before it, exceed the limit."""


class _IdleTimeout(DownloadTimeoutError):
    """The server sent no byte for too long, though the deadline has not passed."""


class _BoundedProtocol(_LenientHTTP11ClientProtocol):
    """Limits the total size of headers: Twisted limits a line of them, not their number."""

    max_header_bytes = 0

    def request(self, request: TxRequest) -> Deferred[IResponse]:
        """Send a request and count the bytes of its response's headers from 0."""
        self._header_bytes = 0
        response = super().request(request)
        if self._parser is not None:
            self._parser.MAX_LENGTH = self.max_header_bytes
        return response

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """Count the bytes that arrive before the headers have ended."""
        super().dataReceived(data)  # type: ignore[no-untyped-call]
        if self._parser is not None and self._parser.state in (STATUS, HEADER):
            self._header_bytes += len(data)
            if self._header_bytes > self.max_header_bytes:
                too_large = Failure(HeadersTooLarge(f"more than {self.max_header_bytes} bytes"))  # type: ignore[no-untyped-call]
                self._giveUp(too_large)  # type: ignore[no-untyped-call]

    def _finishResponse_WAITING(self, rest: bytes) -> None:  # noqa: N802 - Twisted's name
        self._note_version()
        super()._finishResponse_WAITING(rest)

    def _finishResponse_TRANSMITTING(self, rest: bytes) -> None:  # noqa: N802 - Twisted's name
        self._note_version()
        super()._finishResponse_TRANSMITTING(rest)

    def _note_version(self) -> None:
        """End the connection with a response of HTTP/1.0 that does not ask to keep it (RFC 9112, 9.3).

        Twisted looks at `Connection: close` only. It would send the next request into a connection that the server is
        about to end.
        """
        parser, request = self._parser, self._currentRequest
        if parser is None or request is None or parser.response.version[1:] >= (1, 1):
            return
        options = b",".join(parser.connHeaders.getRawHeaders(b"connection", ())).lower()
        request.persistent = b"keep-alive" in options


class _BoundedFactory(_LenientHTTP11ClientFactory):
    def buildProtocol(self, addr: IAddress | None) -> HTTP11ClientProtocol:  # noqa: N802
        return _BoundedProtocol(self._quiescentCallback)  # type: ignore[no-untyped-call]


class IdleTimeoutHandler(HTTP11DownloadHandler):
    """Fails when a server sends nothing for too long; Scrapy's own timeout is the deadline of the whole response."""

    def __init__(self, crawler: Crawler) -> None:
        super().__init__(crawler)
        self._pool._factory = _BoundedFactory
        # Twisted would resend a request at once when a connection breaks; every request waits for its host's permit.
        self._pool.retryAutomatically = False

    async def download_request(self, request: Request) -> Response:
        """Download, and fail when no byte arrives for too long."""
        idle_timeout_s = float(request.meta["silence_s"])
        request.meta["heard"] = monotonic()
        download = asyncio.ensure_future(super().download_request(request))
        try:
            while not download.done():
                left_s = idle_timeout_s - (monotonic() - request.meta["heard"])
                if left_s <= 0:
                    raise _IdleTimeout(f"no byte for {idle_timeout_s:g} s")
                await asyncio.wait({download}, timeout=left_s)
            return download.result()
        finally:
            download.cancel()


class CrawlSpider(scrapy.Spider):
    """Runs one coroutine that sends its requests through Scrapy's downloader."""

    name = "kb"

    def __init__(self, work: Work, rules: CrawlRules) -> None:
        super().__init__()
        self._work, self._rules = work, rules
        self.error: str | None = None

    @classmethod
    def from_crawler(cls, crawler: Crawler, work: Work, rules: CrawlRules) -> CrawlSpider:
        """Connect the signals that may stop the download of a body."""
        spider = super().from_crawler(crawler, work, rules)
        crawler.signals.connect(_on_headers, signal=signals.headers_received)
        crawler.signals.connect(_on_bytes, signal=signals.bytes_received)
        return spider

    async def start(self) -> AsyncIterator[Any]:
        """Run the coroutine; yield nothing, since its requests bypass Scrapy's scheduler."""
        try:
            await self._work(self.get)
        except Exception:  # noqa: BLE001 - Scrapy would log it and report success
            self.error = traceback.format_exc()
        never: tuple[Request, ...] = ()
        for request in never:
            yield request

    async def get(self, get: HttpRequest) -> HttpResponse:
        """Send one request and return its response; raise FetchError."""
        request = self._request(get)
        try:
            download = self.crawler.engine.downloader.fetch(request)
            response = await maybe_deferred_to_future(download)
        except Exception as error:
            raise _fetch_error(error, request) from error
        if not isinstance(response, Response):
            raise FetchError("connection", "no response")
        return _response(response, request)

    def _request(self, get: HttpRequest) -> Request:
        meta = {
            "get": get,
            "silence_s": self._rules.timeout_s,
            "download_timeout": self._rules.deadline_s,
            "limit": get.max_bytes or self._rules.max_body_bytes,
            # A cut body is stopped by _on_bytes; 0 is no limit of Scrapy's.
            "download_maxsize": 0 if get.truncate else get.max_bytes or self._rules.max_body_bytes,
            **({"proxy": self._rules.proxy} if self._rules.proxy else {}),
        }
        return Request(get.url, headers=dict(get.headers), meta=meta, dont_filter=True)


async def run(work: Work, rules: CrawlRules, *, debug: bool = False) -> None:
    """Run the work with Scrapy on this event loop, once in a process; raises what it raised."""
    logging.getLogger("scrapy").setLevel(logging.INFO if debug else logging.ERROR)
    with _running_reactor(rules):
        runner = AsyncCrawlerRunner(settings(rules))
        crawler = runner.create_crawler(CrawlSpider)
        await runner.crawl(crawler, work=work, rules=rules)
    spider = crawler.spider
    if not isinstance(spider, CrawlSpider):
        raise RuntimeError("Scrapy did not start; its log says why")
    if spider.error:
        raise RuntimeError(spider.error)


@contextlib.contextmanager
def _running_reactor(rules: CrawlRules) -> Iterator[None]:
    """Start Twisted's reactor on the running event loop: all of reactor.run() except running the loop."""
    install_reactor(_REACTOR)
    from twisted.internet import reactor as installed

    reactor = cast("ReactorBase", installed)
    GuardedResolver.allowed_networks = rules.allowed_networks
    GuardedResolver.proxy = hostname_of(rules.proxy).strip("[]") if rules.proxy else ""
    _BoundedProtocol.max_header_bytes = rules.max_header_bytes
    GuardedResolver(reactor, _DNS_CACHE_SIZE).install_on_reactor()
    reactor.getThreadPool().adjustPoolsize(maxthreads=_RESOLVER_THREADS)
    reactor.startRunning(installSignalHandlers=False)
    try:
        yield
    finally:
        # The reactor's threads would keep the process alive. Firing "shutdown" would end them too, but also the loop.
        reactor.getThreadPool().stop()


def settings(rules: CrawlRules) -> dict[str, Any]:
    """Return Scrapy's settings, with everything off that the crawler does itself."""
    handler = f"{__name__}.{IdleTimeoutHandler.__name__}"
    package = "scrapy.downloadermiddlewares"
    off = (
        "offsite.OffsiteMiddleware",
        "robotstxt.RobotsTxtMiddleware",
        "httpauth.HttpAuthMiddleware",
        "downloadtimeout.DownloadTimeoutMiddleware",
        "retry.RetryMiddleware",
        "redirect.MetaRefreshMiddleware",
        "redirect.RedirectMiddleware",
        "cookies.CookiesMiddleware",
        "httpproxy.HttpProxyMiddleware",
        "httpcache.HttpCacheMiddleware",
        "httpcompression.HttpCompressionMiddleware",
        "stats.DownloaderStats",
    )
    return {
        "USER_AGENT": rules.user_agent,
        "DEFAULT_REQUEST_HEADERS": {"Accept": ACCEPT, "Accept-Encoding": ACCEPT_ENCODING},
        "DOWNLOADER_MIDDLEWARES": {f"{package}.{name}": None for name in off},
        "EXTENSIONS_BASE": {},
        "SPIDER_MIDDLEWARES_BASE": {},
        "DOWNLOAD_HANDLERS": {
            "http": handler,
            "https": handler,
            "data": None,
            "file": None,
            "ftp": None,
            "s3": None,
        },
        "DOWNLOAD_VERIFY_CERTIFICATES": True,
        "DOWNLOAD_MAXSIZE": rules.max_body_bytes,
        "DOWNLOAD_WARNSIZE": 0,
        # The crawler's throttles keep the delay: they count from the server's response and know Crawl-delay.
        "DOWNLOAD_DELAY": 0,
        "CONCURRENT_REQUESTS": _TOTAL_CONCURRENCY,
        "CONCURRENT_REQUESTS_PER_DOMAIN": rules.concurrency,
        "TWISTED_REACTOR": _REACTOR,
        "TELNETCONSOLE_ENABLED": False,
        "COOKIES_ENABLED": False,
        "ROBOTSTXT_OBEY": False,
        "LOG_ENABLED": False,
        "LOG_INSTALL_ROOT_HANDLER": False,
    }


def _on_headers(headers: Headers, request: Request, **_: object) -> None:
    now = monotonic()
    request.meta["heard"] = request.meta["heard_first"] = now
    if not request.meta["get"].accepts((headers.get(b"Content-Type") or b"").decode("latin-1")):
        raise StopDownload(fail=False)


def _on_bytes(data: bytes, request: Request, **_: object) -> None:
    request.meta["heard"] = monotonic()
    get = request.meta["get"]
    if get.truncate:
        request.meta["got"] = request.meta.get("got", 0) + len(data)
        if request.meta["got"] > get.max_bytes:
            raise StopDownload(fail=False)


def _response(response: Response, request: Request) -> HttpResponse:
    responded_at = request.meta.get("heard_first") or monotonic()
    headers = decode_headers((name, value) for name, values in response.headers.items() for value in values)
    get = request.meta["get"]
    body = response.body if get.accepts(headers.get("content-type", "")) else b""
    plain = decode_body(body, headers.get("content-encoding", ""), request.meta["limit"], truncate=get.truncate)
    return HttpResponse(response.url, response.status, headers, plain, responded_at)


def _fetch_error(error: Exception, request: Request) -> FetchError:
    host = hostname_of(request.url).strip("[]")
    if isinstance(error, CannotResolveHostError):
        if blocked := GuardedResolver.refused.get(host):
            return FetchError("blocked_address", blocked)
        return FetchError("dns", f"{host} does not resolve")
    reason = _reason(error)
    return FetchError(reason, _message(error))


def _reason(error: Exception) -> str:
    if isinstance(error, DownloadTimeoutError):
        return "timeout" if isinstance(error, _IdleTimeout) else "too_slow"
    if isinstance(error, ResponseDataLossError):
        return "truncated"
    if isinstance(error, DownloadCancelledError):
        return "too_large"
    if any(isinstance(cause, HeadersTooLarge) for cause in _causes(error)):
        return "headers_too_large"
    return "tls" if any(isinstance(cause, (SSL.Error, VerifyError)) for cause in _causes(error)) else "connection"


def _causes(error: BaseException) -> list[BaseException]:
    wrapped = error.__cause__ if isinstance(error, DownloadFailedError) else error
    failures = getattr(wrapped, "reasons", None) or ()
    return [cause for cause in (wrapped, *(failure.value for failure in failures)) if cause is not None]


def _message(error: Exception) -> str:
    causes = "; ".join(str(cause) for cause in _causes(error)) or type(error).__name__
    return f"{type(error).__name__}: {causes}"[:500]
