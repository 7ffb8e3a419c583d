"""Fetches and caches the robots.txt of each origin, by RFC 9309, 2.3.1 (unavailable or unreachable) and 2.4."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kb_pipeline.fetch.web import robots
from kb_pipeline.fetch.web.http.client import FetchError, PoliteClient, Request, Response
from kb_pipeline.fetch.web.politeness.host_throttle import MAX_WAIT_S, HostThrottles
from kb_pipeline.fetch.web.robots import RobotsPolicy
from kb_pipeline.model import digest
from kb_pipeline.urls import canonical_url, hostname_of, origin_of

MAX_HOPS = 5
MAX_AGE_S = 24 * 3600.0
"""How long a robots.txt is cached, and how long the stored one stands in for one that is unreachable."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a URL may not be fetched."""

    reason: str
    message: str


class StoredRobots:
    """The last fetched robots.txt of each origin, on disk, for when it is unreachable."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, origin: str, body: bytes) -> None:
        """Store a robots.txt that was just fetched."""
        path = self._path(origin)
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(body)
        temporary.replace(path)

    def load(self, origin: str) -> bytes | None:
        """Return what was fetched within MAX_AGE_S; None when nothing was."""
        path = self._path(origin)
        try:
            return path.read_bytes() if time.time() - path.stat().st_mtime < MAX_AGE_S else None
        except OSError:
            return None

    def read(self, origin: str) -> tuple[bytes, datetime] | None:
        """Return what was fetched last and when, however long ago; None when nothing was."""
        path = self._path(origin)
        try:
            return path.read_bytes(), datetime.fromtimestamp(path.stat().st_mtime, UTC)
        except OSError:
            return None

    def _path(self, origin: str) -> Path:
        return self._folder / f"robots-{digest(origin)}.txt"


class RobotsCache:
    """The robots.txt policies of the origins of one crawl."""

    def __init__(self, client: PoliteClient, throttles: HostThrottles, user_agent: str, stored: StoredRobots) -> None:
        self._client, self._throttles, self._user_agent, self._stored = client, throttles, user_agent, stored
        self._policies: dict[str, tuple[float, asyncio.Task[RobotsPolicy | Refusal]]] = {}

    async def refusal(self, url: str) -> Refusal | None:
        """Return why this URL may not be fetched, or None when it may be; raise CrawlStopped."""
        return refusal_of(await self.policy(origin_of(url)), url)

    def read_policy(self, origin: str) -> RobotsPolicy | Refusal | None:
        """Return the policy of an origin, None while it is not read, could not be, or has to be read again."""
        fetched_at, task = self._policies.get(origin, (0.0, None))
        if task is None or not task.done() or time.monotonic() - fetched_at > MAX_AGE_S:
            return None
        return None if task.cancelled() or task.exception() is not None else task.result()

    def signals(self, url: str) -> tuple[str, ...]:
        """Return the content signals of the URL's origin, () while its policy is not fetched."""
        _, task = self._policies.get(origin_of(url), (0.0, None))
        policy = task.result() if task is not None and task.done() else None
        return policy.signals if isinstance(policy, RobotsPolicy) else ()

    async def policy(self, origin: str) -> RobotsPolicy | Refusal:
        """Return the policy of an origin; the first caller fetches it, the others wait."""
        fetched_at, task = self._policies.get(origin, (0.0, None))
        if task is None or time.monotonic() - fetched_at > MAX_AGE_S:
            task = asyncio.create_task(self._fetch(origin))
            self._policies[origin] = time.monotonic(), task
        if task.done():
            return task.result()
        # Shielded, so that cancelling one page does not cancel the fetch for the others.
        return await asyncio.shield(task)

    async def _fetch(self, origin: str) -> RobotsPolicy | Refusal:
        url = f"{origin}/robots.txt"
        try:
            response = await self._follow(url, origin)
        except FetchError as error:
            if error.reason == "blocked_address":
                return Refusal(error.reason, str(error))
            return self._unreachable(origin, f"{url}: {error.reason}: {error}")
        if response is not None and response.status >= 500:
            return self._unreachable(origin, f"{url}: status {response.status}")
        policy = self._read(response)
        if response is not None and _is_found(response):
            self._stored.save(origin, response.body)
        return self._usable(origin, policy)

    async def _follow(self, url: str, origin: str) -> Response | None:
        """Return the response after up to five redirects; None after more, which counts as unavailable."""

        def set_delay(response: Response) -> None:
            # Before the host's next request, which may come from another run: the delay holds from the first one on.
            if response.status < 300 or 400 <= response.status < 500:
                self._set_delay(origin, self._read(response))

        for _ in range(MAX_HOPS + 1):
            response = await self._client.get(Request(url, max_bytes=robots.MAX_BYTES, truncate=True), set_delay)
            if not 300 <= response.status < 400:
                return response
            target = canonical_url(response.headers.get("location", ""), url)
            if target is None:
                return None
            url = target
        return None

    def _read(self, response: Response | None) -> RobotsPolicy:
        return RobotsPolicy(response.body if response is not None and _is_found(response) else b"", self._user_agent)

    def _unreachable(self, origin: str, why: str) -> RobotsPolicy | Refusal:
        copy = self._stored.load(origin)
        if copy is None:
            return Refusal("robots_unreachable", why)
        policy = RobotsPolicy(copy, self._user_agent)
        self._set_delay(origin, policy)
        return self._usable(origin, policy)

    def _set_delay(self, origin: str, policy: RobotsPolicy) -> None:
        self._throttles.of(hostname_of(origin)).set_crawl_delay(policy.crawl_delay or 0.0)

    def _usable(self, origin: str, policy: RobotsPolicy) -> RobotsPolicy | Refusal:
        if (policy.crawl_delay or 0.0) > MAX_WAIT_S:
            return Refusal("asked_to_wait", f"{origin}/robots.txt: Crawl-delay {policy.crawl_delay:g} s")
        return policy


def refusal_of(policy: RobotsPolicy | Refusal, url: str) -> Refusal | None:
    """Return why a policy does not let this URL be fetched, or None when it does."""
    if isinstance(policy, Refusal):
        return policy
    return None if policy.allowed(url) else Refusal("robots", "robots.txt of this host forbids it")


def _is_found(response: Response) -> bool:
    return 200 <= response.status < 300
