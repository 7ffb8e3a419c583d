"""Comes in through the doors of sites that answer only who brings back the cookie they gave.

Cookies are sent to an origin only where a redirect with a cookie led back to the page itself. They are kept to that
origin and to one crawl, so to one source of one tenant.
"""

from __future__ import annotations

import asyncio
import urllib.request
from collections import Counter, defaultdict
from dataclasses import replace
from email.message import Message
from http.cookiejar import CookieJar
from typing import cast

from kb_pipeline.fetch.web.crawl.outcomes import REDIRECTS
from kb_pipeline.fetch.web.crawl.robots_cache import RobotsCache
from kb_pipeline.fetch.web.http.client import FetchError, PoliteClient, Request, Response
from kb_pipeline.fetch.web.http.ssrf_guard import url_refusal
from kb_pipeline.urls import absolute_url, canonical_url, origin_of

_MOST_HOPS = 5
"""Redirects from a page through a door back to it."""
_MOST_VAIN_TRIES = 3
"""Redirects with a cookie that led elsewhere, after which an origin is taken to have no door."""
_MOST_COOKIES = 50
_MOST_ORIGINS = 1000


class Doors:
    """The doors of one crawl that were opened, and the cookies that keep them open."""

    def __init__(self, client: PoliteClient, robots: RobotsCache) -> None:
        self._client, self._robots = client, robots
        self._opened: dict[str, CookieJar] = {}
        self._vain: Counter[str] = Counter()
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """One try at a time: after a first one that opened the door, or a few in vain, the others need none."""

    def with_cookies(self, request: Request) -> Request:
        """Return the request with the cookies of its origin, if that has a door."""
        jar = self._opened.get(origin_of(request.url)) if self._opened else None
        return request if jar is None else _with_cookies(request, jar)

    async def enter(self, request: Request, response: Response) -> Response:
        """Return what is behind the door that a redirect with a cookie may be; else the response as it is.

        Raises:
            CrawlStopped: the crawl was stopped.
        """
        origin = origin_of(request.url)
        if response.status not in REDIRECTS or "set-cookie" not in response.headers:
            return response
        async with self._turns[origin]:
            return await self._try(origin, request, response)

    async def _try(self, origin: str, request: Request, response: Response) -> Response:
        if self._vain[origin] >= _MOST_VAIN_TRIES or len(self._opened) >= _MOST_ORIGINS:
            return response
        jar = self._opened.get(origin) or CookieJar()
        try:
            page = await self._page_behind(request, response, jar)
        except FetchError:
            page = None
        if page is None:
            self._vain[origin] += 1
            return response
        self._opened[origin] = jar
        return page

    async def _page_behind(self, request: Request, response: Response, jar: CookieJar) -> Response | None:
        attempts = response.attempts
        for _ in range(_MOST_HOPS):
            _keep_cookies(response, jar)
            target = absolute_url(response.headers.get("location", ""), response.url)
            if target is None or not await self._may_go(target, request.url) or len(jar) > _MOST_COOKIES:
                return None
            is_page = canonical_url(target) == request.url
            hop = replace(request, url=target, headers=request.headers if is_page else {})
            response = await self._client.get(_with_cookies(hop, jar))
            attempts += response.attempts
            if response.status not in REDIRECTS:
                return replace(response, attempts=attempts) if is_page else None
        return None

    async def _may_go(self, target: str, page: str) -> bool:
        key = canonical_url(target)
        if key is None or origin_of(key) != origin_of(page) or url_refusal(target):
            return False
        return await self._robots.refusal(key) is None


def _keep_cookies(response: Response, jar: CookieJar) -> None:
    headers = Message()
    for line in response.headers.get("set-cookie", "").split("\n"):
        headers["Set-Cookie"] = line
    jar.extract_cookies(cast("urllib.request._UrlopenRet", _Answer(headers)), urllib.request.Request(response.url))  # noqa: S310 - asks for nothing


def _with_cookies(request: Request, jar: CookieJar) -> Request:
    bearer = urllib.request.Request(request.url)  # noqa: S310 - asks for nothing
    jar.add_cookie_header(bearer)
    cookie = bearer.get_header("Cookie")
    return replace(request, headers={**request.headers, "Cookie": cookie}) if cookie else request


class _Answer:
    """A response as the library reads it."""

    def __init__(self, headers: Message) -> None:
        self._headers = headers

    def info(self) -> Message:
        return self._headers
