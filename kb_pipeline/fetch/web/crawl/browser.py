"""Renders pages in the system's Chromium: the only module that imports playwright.

The browser has no network access of its own. This module fulfils every request of a page with the client that fetches
everything else, so the same address guard, host throttles, robots.txt rules and limits of size and time apply. Traffic
that it cannot intercept (WebSockets, WebRTC, speculative look-ups) goes to a proxy that does not exist. Only what text
may depend on is fetched: documents of frames, scripts and the data they load.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from kb_pipeline.fetch.web.crawl.outcomes import REDIRECTS
from kb_pipeline.fetch.web.crawl.robots_cache import RobotsCache
from kb_pipeline.fetch.web.http.client import FetchError, PoliteClient
from kb_pipeline.fetch.web.http.client import Request as HttpRequest
from kb_pipeline.fetch.web.http.client import Response as HttpResponse
from kb_pipeline.fetch.web.politeness.host_throttle import CrawlStopped
from kb_pipeline.fetch.web.rules import CrawlRules
from kb_pipeline.urls import canonical_url

if TYPE_CHECKING:
    import psutil
    from playwright.async_api import Browser, BrowserContext, Page, Playwright, Request, Route

MAX_OPEN_PAGES = 2
"""A page that must be alone takes the room of both."""
PAGES_PER_CONTEXT = 50
"""Pages after which the browser context, with its cookies, storage and caches, is replaced."""
PAGES_PER_BROWSER = 500
MAX_MEMORY_BYTES = 1 << 30
"""Memory that the browser's processes may take together; beyond it they are killed."""
_HEAP_MB = 512
_IDLE_S = 0.5
"""A page is done when it has had no request in flight and no change for so long (as Puppeteer's networkidle0)."""
_POLL_S = 0.1
_OPENING_S = 60.0
"""A browser that is asked for a page for longer hangs."""
_CLOSING_S = 5.0
_FETCHED_TYPES = frozenset({"document", "script", "xhr", "fetch"})
_MAX_REDIRECTS = 5
_CACHED_BYTES = 32 << 20
_FORWARDED = ("accept", "accept-language", "origin", "content-type", "x-requested-with")
_DROPPED_HEADERS = frozenset({"content-encoding", "content-length", "transfer-encoding", "connection", "set-cookie"})
_Result = TypeVar("_Result")
_DEAD_PROXY = "http://127.0.0.1:9"  # the port of the discard service, where nothing listens
_ARGUMENTS = (
    f"--proxy-server={_DEAD_PROXY}", "--proxy-bypass-list=<-loopback>", "--dns-prefetch-disable", "--disable-gpu",
    "--webrtc-ip-handling-policy=disable_non_proxied_udp", "--force-webrtc-ip-handling-policy", "--disable-quic",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
    "--disable-dev-shm-usage", "--mute-audio", "--disable-extensions", f"--js-flags=--max-old-space-size={_HEAP_MB}",
)  # fmt: skip


class Renderer:
    """One browser for a crawl, started when the first page needs it; use it as a context manager."""

    def __init__(self, rules: CrawlRules, client: PoliteClient, robots: RobotsCache) -> None:
        self._rules, self._client, self._robots = rules, client, robots
        self._room, self._alone = asyncio.Semaphore(MAX_OPEN_PAGES), asyncio.Lock()
        self._starting = asyncio.Lock()
        self._playwright: Playwright | None = None
        self._browser: _Running | None = None
        self._open = self._kills = 0
        self._cache = _Cache(_CACHED_BYTES)

    async def __aenter__(self) -> Renderer:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._close_browser()
        if self._playwright is not None:
            with contextlib.suppress(TimeoutError):  # its process ends with this one
                await asyncio.wait_for(self._playwright.stop(), _CLOSING_S)

    async def render(self, url: str, body: bytes, content_type: str) -> str:
        """Return the rendered HTML of a page whose bytes were fetched already; raise FetchError or CrawlStopped."""
        async with self._room:
            kills = self._kills
            try:
                return await self._render(_PageLoad(self, url, body, content_type))
            except FetchError as error:
                if error.reason == "render_timeout" or kills == self._kills:
                    raise
        # The browser was killed, because of this page or the other one: run it alone to find out.
        async with self._alone, self._room, self._room:
            return await self._render(_PageLoad(self, url, body, content_type))

    async def _render(self, load: _PageLoad) -> str:
        from playwright.async_api import Error

        timeout_s = self._rules.render_timeout_s
        try:
            async with self._page() as (browser, page):
                watch = asyncio.create_task(self._watch_memory(browser, load))
                try:
                    return await asyncio.wait_for(load.run(page), timeout_s)
                except TimeoutError:
                    self._kill(browser)  # a page that never becomes idle may block its closing too
                    raise FetchError("render_timeout", f"not done within {timeout_s:g} s") from None
                finally:
                    watch.cancel()
        except Error as error:
            if load.stopped:
                raise CrawlStopped from None
            reason = "render_memory" if load.is_too_large else "render_failed"
            raise FetchError(reason, str(error).splitlines()[0][:300]) from error

    async def fetch(self, request: Request) -> HttpResponse:
        """Return the response to a page's request; raise FetchError or CrawlStopped."""
        url = canonical_url(request.url)
        if url is None or request.method != "GET":
            raise FetchError("invalid_url", f"{request.method} {request.url[:200]}")
        is_script = request.resource_type == "script"
        if is_script and (cached := self._cache.get(url)) is not None:
            return cached
        headers = {name: value for name, value in request.headers.items() if name in _FORWARDED}
        response = await self._follow(url, headers)
        if is_script and response.status == 200:
            self._cache.put(url, response)
        return response

    async def _follow(self, url: str, headers: Mapping[str, str]) -> HttpResponse:
        for _ in range(_MAX_REDIRECTS + 1):
            if (refusal := await self._robots.refusal(url)) is not None:
                raise FetchError(refusal.reason, refusal.message)
            response = await self._client.get(HttpRequest(url, headers))
            if response.status not in REDIRECTS:
                return response
            target = canonical_url(response.headers.get("location", ""), url)
            if target is None:
                raise FetchError("invalid_url", f"{url} redirects nowhere")
            url = target
        raise FetchError("redirect_loop", f"more than {_MAX_REDIRECTS} redirects")

    # -- the browser

    @contextlib.asynccontextmanager
    async def _page(self) -> AsyncIterator[tuple[_Running, Page]]:
        async with self._starting:
            browser, context = await self._fresh_context()
        page = await self._ask(browser, context.new_page())
        self._open += 1
        try:
            yield browser, page
        finally:
            self._open -= 1
            with contextlib.suppress(Exception):  # the page is done; an error of its closing does not matter
                await asyncio.wait_for(page.close(), _CLOSING_S)

    async def _fresh_context(self) -> tuple[_Running, BrowserContext]:
        browser = self._browser
        is_alive = browser is not None and browser.handle.is_connected()
        if browser is None or not is_alive or (self._open == 0 and browser.opened >= PAGES_PER_BROWSER):
            await self._close_browser()
            browser = self._browser = _Running(await self._launch())
            browser.handle.on("disconnected", lambda _: browser.gone.set())
        context = browser.context
        if context is None or (self._open == 0 and browser.opened % PAGES_PER_CONTEXT == 0):
            if context is not None:
                await self._ask(browser, context.close())
            context = browser.context = await self._ask(browser, self._new_context(browser))
        browser.opened += 1
        return browser, context

    async def _launch(self) -> Browser:
        from playwright.async_api import async_playwright

        if self._playwright is None:
            self._playwright = await async_playwright().start()
        # As root, Chromium does not start in its own sandbox.
        return await self._playwright.chromium.launch(
            executable_path=self._rules.browser, args=_ARGUMENTS, chromium_sandbox=os.geteuid() != 0
        )

    async def _new_context(self, browser: _Running) -> BrowserContext:
        return await browser.handle.new_context(
            user_agent=self._rules.user_agent, service_workers="block", accept_downloads=False
        )

    async def _ask(self, browser: _Running, work: Awaitable[_Result]) -> _Result:
        """Return the browser's reply; raise FetchError when it ends meanwhile or hangs.

        Playwright never replies to a call for a page whose browser was killed meanwhile (as of 1.65), and these calls
        have no time limit.
        """
        reply, gone = asyncio.ensure_future(work), asyncio.ensure_future(browser.gone.wait())
        try:
            await asyncio.wait({reply, gone}, timeout=_OPENING_S, return_when=asyncio.FIRST_COMPLETED)
            if reply.done():
                return reply.result()
            if gone.done():
                raise FetchError("render_failed", "the browser ended before the page was open")
            self._kill(browser)
            raise FetchError("render_failed", f"the browser opened no page within {_OPENING_S:g} s")
        finally:
            reply.cancel()
            gone.cancel()

    async def _watch_memory(self, browser: _Running, load: _PageLoad) -> None:
        while True:
            await asyncio.sleep(_POLL_S)
            if await asyncio.to_thread(_browser_memory) > MAX_MEMORY_BYTES:
                load.is_too_large = True
                self._kill(browser)
                return

    def _kill(self, browser: _Running) -> None:
        """Kill a browser, unless that was done: another one may be starting by now."""
        browser.gone.set()
        if self._browser is not browser:
            return
        self._kills += 1
        self._browser = None
        _kill_processes()

    async def _close_browser(self) -> None:
        browser, self._browser = self._browser, None
        if browser is None:
            return
        try:
            await asyncio.wait_for(browser.handle.close(), _CLOSING_S)
        except Exception:  # noqa: BLE001 - it hangs or is gone, and there is no other browser now
            _kill_processes()


@dataclass(eq=False, slots=True)
class _Running:
    """A browser that was started."""

    handle: Browser
    context: BrowserContext | None = None
    """Cookies, storage and caches that pages share."""
    opened: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class _PageLoad:
    """One page that is loaded in the browser."""

    # Without slots: Playwright keeps its wrapper of a bound handler on the instance.

    renderer: Renderer
    url: str
    body: bytes
    content_type: str
    stopped: bool = False
    is_too_large: bool = False
    _in_flight: int = 0
    _last_at: float = 0.0
    _is_navigated: bool = False

    async def run(self, page: Page) -> str:
        """Load the page, wait until it is idle, and return its HTML."""
        page.on("dialog", lambda dialog: asyncio.ensure_future(dialog.dismiss()))
        page.on("popup", lambda popup: asyncio.ensure_future(popup.close()))
        await page.route("**/*", self._handle_while_open)
        await page.goto(self.url, wait_until="commit", timeout=0)
        shown, self._last_at = -1, monotonic()
        while self._in_flight or monotonic() - self._last_at < _IDLE_S:
            await asyncio.sleep(_POLL_S)
            size = await page.evaluate("document.documentElement ? document.documentElement.outerHTML.length : 0")
            if size != shown:
                shown, self._last_at = size, monotonic()
        return await page.content()

    async def _handle_while_open(self, route: Route) -> None:
        from playwright.async_api import Error

        with contextlib.suppress(Error):  # the page was closed meanwhile
            await self._handle(route)

    async def _handle(self, route: Route) -> None:
        request = route.request
        if request.is_navigation_request() and request.frame.parent_frame is None:
            await self._navigate(route)
            return
        if request.resource_type not in _FETCHED_TYPES:
            await route.abort("blockedbyclient")
            return
        self._in_flight += 1
        try:
            response = await self.renderer.fetch(request)
            headers = {name: value for name, value in response.headers.items() if name not in _DROPPED_HEADERS}
            await route.fulfill(status=response.status, headers=headers, body=response.body)
        except (FetchError, CrawlStopped) as error:
            self.stopped |= isinstance(error, CrawlStopped)
            await route.abort("failed")
        finally:
            self._in_flight -= 1
            self._last_at = monotonic()

    async def _navigate(self, route: Route) -> None:
        """Fulfil the page's own navigation with its stored bytes; abort any later one that its scripts start."""
        if self._is_navigated:
            await route.abort("aborted")
            return
        self._is_navigated = True
        await route.fulfill(status=200, headers={"content-type": self.content_type or "text/html"}, body=self.body)


class _Cache:
    """An LRU cache of scripts, since many pages of a site load the same ones."""

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes
        self._responses: OrderedDict[str, HttpResponse] = OrderedDict()

    def get(self, url: str) -> HttpResponse | None:
        """Return the response to an earlier request, or None."""
        if url in self._responses:
            self._responses.move_to_end(url)
        return self._responses.get(url)

    def put(self, url: str, response: HttpResponse) -> None:
        """Keep a response, and drop the least recently used ones beyond the limit."""
        if url in self._responses:
            return
        self._responses[url] = response
        self._left -= len(response.body)
        while self._left < 0:
            _, gone = self._responses.popitem(last=False)
            self._left += len(gone.body)


def _kill_processes() -> None:
    for process in _browser_processes():
        with contextlib.suppress(Exception):
            process.kill()


def _browser_processes() -> list[psutil.Process]:
    import psutil

    children = psutil.Process().children(recursive=True)
    return [child for child in children if _is_browser(child)]


def _is_browser(process: psutil.Process) -> bool:
    import psutil

    try:
        return "chrom" in process.name()
    except psutil.Error:
        return False


def _browser_memory() -> int:
    """Return the bytes of all the browser's processes, without the memory they share."""
    import psutil

    total = 0
    for process in _browser_processes():
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss - process.memory_info().shared
    return total
