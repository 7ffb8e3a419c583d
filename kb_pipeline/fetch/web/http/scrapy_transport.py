"""Scrapy as the HTTP engine of discovery: the only module that imports scrapy or twisted.

The crawl keeps its own frontier, clocks, robots rules, redirects and retries; Scrapy brings connections, TLS
and size limits. It joins the event loop that runs already, so the crawl that asked for its known pages on
that loop goes on where it is. Host names are resolved once, by a resolver that hands on judged addresses
only. IP literals pass it too, since Twisted's HostnameEndpoint asks the reactor's resolver for those as well.
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

from kb_pipeline.fetch.web.http.client import ACCEPT, FetchError, Transport, header_texts
from kb_pipeline.fetch.web.http.client import Request as HttpRequest
from kb_pipeline.fetch.web.http.client import Response as HttpResponse
from kb_pipeline.fetch.web.http.content_encoding import ACCEPT_ENCODING, decoded
from kb_pipeline.fetch.web.http.ssrf_guard import refusal
from kb_pipeline.fetch.web.rules import CrawlRules
from kb_pipeline.urls import hostname_of

Work = Callable[[Transport], Awaitable[None]]
_TOTAL_CONCURRENCY = 64
_REACTOR = "twisted.internet.asyncioreactor.AsyncioSelectorReactor"
_DNS_CACHE_SIZE = 10_000
_RESOLVER_THREADS = 10


class _Judge:
    """Passes on the addresses that may be fetched and remembers why the others may not."""

    def __init__(self, receiver: IResolutionReceiver, host: str, resolver: GuardedResolver) -> None:
        self._receiver: Any = receiver
        self._host, self._resolver = host, resolver

    def resolutionBegan(self, resolution: IHostResolution) -> None:  # noqa: N802 - Twisted's name
        self._receiver.resolutionBegan(resolution)

    def addressResolved(self, address: IAddress) -> None:  # noqa: N802
        # Through a proxy, nothing else is connected to; where it is sent has been judged before.
        is_proxy = self._host == self._resolver.proxy
        why = None if is_proxy else refusal(getattr(address, "host", ""), self._resolver.allowed_networks)
        if why is None:
            self._receiver.addressResolved(address)
        else:
            self._resolver.refused[self._host] = f"{self._host}: {why}"

    def resolutionComplete(self) -> None:  # noqa: N802
        self._receiver.resolutionComplete()


class GuardedResolver(CachingHostnameResolver):
    """Resolves a name once and lets only judged addresses through to the connection."""

    allowed_networks: tuple[str, ...] = ()
    proxy = ""
    """Its host name."""
    refused: dict[str, str] = {}  # noqa: RUF012 - one resolver a process, read by the transport

    def resolveHostName(  # noqa: N802
        self,
        resolutionReceiver: IResolutionReceiver,  # noqa: N803
        hostName: str,  # noqa: N803
        portNumber: int = 0,  # noqa: N803
        addressTypes: Sequence[type[IAddress]] | None = None,  # noqa: N803
        transportSemantics: str = "TCP",  # noqa: N803
    ) -> IHostResolution:
        """Resolve as Scrapy does, through the judge."""
        judge = cast("IResolutionReceiver", _Judge(resolutionReceiver, hostName, self))
        return super().resolveHostName(judge, hostName, portNumber, addressTypes, transportSemantics)


class HeadersTooLarge(Exception):
    """The headers of a response, with those of all interim ones before it, exceed the limit."""


class _Silence(DownloadTimeoutError):
    """No byte came for too long, though the deadline is not over."""


class _BoundedProtocol(_LenientHTTP11ClientProtocol):
    """Gives up on headers without an end: Twisted bounds a line of them, not their number."""

    max_header_bytes = 0

    def request(self, request: TxRequest) -> Deferred[IResponse]:
        """Count the headers of each response anew."""
        self._header_bytes = 0
        answer = super().request(request)
        if self._parser is not None:
            self._parser.MAX_LENGTH = self.max_header_bytes
        return answer

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """Count what came while the headers have not ended."""
        super().dataReceived(data)  # type: ignore[no-untyped-call]
        if self._parser is not None and self._parser.state in (STATUS, HEADER):
            self._header_bytes += len(data)
            if self._header_bytes > self.max_header_bytes:
                too_large = Failure(HeadersTooLarge(f"more than {self.max_header_bytes} bytes"))  # type: ignore[no-untyped-call]
                self._giveUp(too_large)  # type: ignore[no-untyped-call]


class _BoundedFactory(_LenientHTTP11ClientFactory):
    def buildProtocol(self, addr: IAddress | None) -> HTTP11ClientProtocol:  # noqa: N802
        return _BoundedProtocol(self._quiescentCallback)  # type: ignore[no-untyped-call]


class PatientHandler(HTTP11DownloadHandler):
    """Gives up on a server that stays silent; Scrapy's own timeout is the deadline of the whole response."""

    def __init__(self, crawler: Crawler) -> None:
        super().__init__(crawler)
        self._pool._factory = _BoundedFactory
        # A request on a connection that breaks would be sent again at once; every request has to wait for its turn.
        self._pool.retryAutomatically = False

    async def download_request(self, request: Request) -> Response:
        """Download, watching that bytes keep coming."""
        silence_s = float(request.meta["silence_s"])
        request.meta["heard"] = monotonic()
        download = asyncio.ensure_future(super().download_request(request))
        try:
            while not download.done():
                left_s = silence_s - (monotonic() - request.meta["heard"])
                if left_s <= 0:
                    raise _Silence(f"no byte for {silence_s:g} s")
                await asyncio.wait({download}, timeout=left_s)
            return download.result()
        finally:
            download.cancel()


class CrawlSpider(scrapy.Spider):
    """Runs one piece of work that makes its requests through Scrapy's downloader."""

    name = "kb"

    def __init__(self, work: Work, rules: CrawlRules) -> None:
        super().__init__()
        self._work, self._rules = work, rules
        self.error: str | None = None

    @classmethod
    def from_crawler(cls, crawler: Crawler, work: Work, rules: CrawlRules) -> CrawlSpider:
        """Connect the signals that decide about a body while it arrives."""
        spider = super().from_crawler(crawler, work, rules)
        crawler.signals.connect(_on_headers, signal=signals.headers_received)
        crawler.signals.connect(_on_bytes, signal=signals.bytes_received)
        return spider

    async def start(self) -> AsyncIterator[Any]:
        """Do the work; yields nothing, the requests bypass Scrapy's scheduler."""
        try:
            await self._work(self.get)
        except Exception:  # noqa: BLE001 - Scrapy would log it and report success
            self.error = traceback.format_exc()
        never: tuple[Request, ...] = ()
        for request in never:
            yield request

    async def get(self, get: HttpRequest) -> HttpResponse:
        """Make one request; raises FetchError."""
        request = self._request(get)
        try:
            download = self.crawler.engine.downloader.fetch(request)
            response = await maybe_deferred_to_future(download)
        except Exception as error:
            raise _no_answer(error, request) from error
        if not isinstance(response, Response):
            raise FetchError("connection", "no response")
        return _answer(response, request)

    def _request(self, get: HttpRequest) -> Request:
        meta = {
            "get": get,
            "silence_s": self._rules.timeout_s,
            "download_timeout": self._rules.deadline_s,
            "limit": get.max_bytes or self._rules.max_body_bytes,
            # A cut body is stopped by _on_bytes; 0 is no limit of Scrapy's.
            "download_maxsize": 0 if get.cut else get.max_bytes or self._rules.max_body_bytes,
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
    """Twisted's reactor on the event loop that runs already: all of reactor.run() but running the loop."""
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
        # Its threads would keep the process alive. The event "shutdown" would end them too, and the loop with them.
        reactor.getThreadPool().stop()


def settings(rules: CrawlRules) -> dict[str, Any]:
    """Scrapy's settings: all that the crawl does itself is off."""
    handler = f"{__name__}.{PatientHandler.__name__}"
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
        # The crawl's own clocks keep the delay: they count from the server's answer and know Crawl-delay.
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
    if not request.meta["get"].wants_body((headers.get(b"Content-Type") or b"").decode("latin-1")):
        raise StopDownload(fail=False)


def _on_bytes(data: bytes, request: Request, **_: object) -> None:
    request.meta["heard"] = monotonic()
    get = request.meta["get"]
    if get.cut:
        request.meta["got"] = request.meta.get("got", 0) + len(data)
        if request.meta["got"] > get.max_bytes:
            raise StopDownload(fail=False)


def _answer(response: Response, request: Request) -> HttpResponse:
    heard_at = request.meta.get("heard_first") or monotonic()
    headers = header_texts((name, value) for name, values in response.headers.items() for value in values)
    get = request.meta["get"]
    body = response.body if get.wants_body(headers.get("content-type", "")) else b""
    plain = decoded(body, headers.get("content-encoding", ""), request.meta["limit"], cut=get.cut)
    return HttpResponse(response.url, response.status, headers, plain, heard_at)


def _no_answer(error: Exception, request: Request) -> FetchError:
    host = hostname_of(request.url).strip("[]")
    if isinstance(error, CannotResolveHostError):
        if blocked := GuardedResolver.refused.get(host):
            return FetchError("blocked_address", blocked)
        return FetchError("dns", f"{host} does not resolve")
    reason = _reason(error)
    return FetchError(reason, _message(error))


def _reason(error: Exception) -> str:
    if isinstance(error, DownloadTimeoutError):
        return "timeout" if isinstance(error, _Silence) else "too_slow"
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
