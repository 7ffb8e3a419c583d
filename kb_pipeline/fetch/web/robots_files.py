"""Fetches the robots.txt of each origin once in a crawl and says what its absence means (RFC 9309, 2.3.1)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from kb_pipeline.fetch.web import robots
from kb_pipeline.fetch.web.client import Answer, Get, NoAnswer, PoliteClient
from kb_pipeline.fetch.web.clocks import HostClocks, Stopped
from kb_pipeline.fetch.web.robots import RobotsPolicy
from kb_pipeline.fetch.web.urls import canonical_url, hostname_of, origin_of

MAX_HOPS = 5


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a URL may not be fetched."""

    reason: str
    message: str


class RobotsFiles:
    """The policies of the origins of one crawl."""

    def __init__(self, client: PoliteClient, clocks: HostClocks, user_agent: str) -> None:
        self._client, self._clocks, self._user_agent = client, clocks, user_agent
        self._policies: dict[str, asyncio.Task[RobotsPolicy | Refusal]] = {}

    async def refusal(self, url: str) -> Refusal | None:
        """Why this URL may not be fetched, or None when it may be; raises Stopped."""
        policy = await self.policy(origin_of(url))
        if isinstance(policy, Refusal):
            return policy
        return None if policy.allowed(url) else Refusal("robots", "robots.txt of this host forbids it")

    async def policy(self, origin: str) -> RobotsPolicy | Refusal:
        """What the origin's robots.txt says; the first caller fetches it, the others wait."""
        if origin not in self._policies:
            self._policies[origin] = asyncio.create_task(self._fetch(origin))
        task = self._policies[origin]
        if task.done():
            return task.result()
        # Shielded, so that a cancelled page does not take the policy from the others.
        return await asyncio.shield(task)

    async def _fetch(self, origin: str) -> RobotsPolicy | Refusal:
        url = f"{origin}/robots.txt"
        try:
            answer = await self._follow(url)
        except NoAnswer as failure:
            if failure.reason == "blocked_address":
                return Refusal(failure.reason, str(failure))
            return Refusal("robots_unreachable", f"{url}: {failure.reason}: {failure}")
        if answer is not None and answer.status >= 500:
            return Refusal("robots_unreachable", f"{url}: status {answer.status}")
        found = answer is not None and 200 <= answer.status < 300
        policy = RobotsPolicy(answer.body if found and answer else b"", self._user_agent)
        self._slow_down(origin, policy.crawl_delay)
        return policy

    async def _follow(self, url: str) -> Answer | None:
        """The file after up to five redirects; None after more, which counts as unavailable."""
        for _ in range(MAX_HOPS + 1):
            answer = await self._client.get(Get(url, max_bytes=robots.MAX_BYTES, cut=True))
            if not 300 <= answer.status < 400:
                return answer
            target = canonical_url(answer.headers.get("location", ""), url)
            if target is None:
                return None
            url = target
        return None

    def _slow_down(self, origin: str, delay_s: float | None) -> None:
        clock = self._clocks.of(hostname_of(origin))
        clock.delay_s = max(clock.delay_s, delay_s or 0.0)
        if delay_s:
            clock.not_before(clock.delay_s)


__all__ = ["Refusal", "RobotsFiles", "Stopped"]
