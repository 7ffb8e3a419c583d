"""Fetches the robots.txt of each origin and says what its absence means (RFC 9309, 2.3.1 and 2.4)."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from kb_pipeline.fetch.web import robots
from kb_pipeline.fetch.web.http.client import FetchError, PoliteClient, Request, Response
from kb_pipeline.fetch.web.politeness.host_throttle import LONGEST_WAIT_S, HostClocks
from kb_pipeline.fetch.web.robots import RobotsPolicy
from kb_pipeline.model import digest
from kb_pipeline.urls import canonical_url, hostname_of, origin_of

MAX_HOPS = 5
MAX_AGE_S = 24 * 3600.0
"""How long a policy is followed before it is fetched again, and how long a copy stands in for an unreachable one."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a URL may not be fetched."""

    reason: str
    message: str


class RobotsCopies:
    """The newest robots.txt of each origin that could be fetched, for when it cannot."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, origin: str, body: bytes) -> None:
        """Remember what was just fetched."""
        path = self._path(origin)
        beside = path.with_suffix(".tmp")
        beside.write_bytes(body)
        beside.replace(path)

    def recall(self, origin: str) -> bytes | None:
        """What was fetched within MAX_AGE_S; None when nothing was."""
        path = self._path(origin)
        try:
            return path.read_bytes() if time.time() - path.stat().st_mtime < MAX_AGE_S else None
        except OSError:
            return None

    def _path(self, origin: str) -> Path:
        return self._folder / f"robots-{digest(origin)}.txt"


class RobotsFiles:
    """The policies of the origins of one crawl."""

    def __init__(self, client: PoliteClient, clocks: HostClocks, user_agent: str, copies: RobotsCopies) -> None:
        self._client, self._clocks, self._user_agent, self._copies = client, clocks, user_agent, copies
        self._policies: dict[str, tuple[float, asyncio.Task[RobotsPolicy | Refusal]]] = {}

    async def refusal(self, url: str) -> Refusal | None:
        """Why this URL may not be fetched, or None when it may be; raises Stopped."""
        policy = await self.policy(origin_of(url))
        if isinstance(policy, Refusal):
            return policy
        return None if policy.allowed(url) else Refusal("robots", "robots.txt of this host forbids it")

    def signals(self, url: str) -> tuple[str, ...]:
        """What the host says of the use of its content, where its policy is at hand."""
        _, task = self._policies.get(origin_of(url), (0.0, None))
        policy = task.result() if task is not None and task.done() else None
        return policy.signals if isinstance(policy, RobotsPolicy) else ()

    async def policy(self, origin: str) -> RobotsPolicy | Refusal:
        """What the origin's robots.txt says; the first caller fetches it, the others wait."""
        asked_at, task = self._policies.get(origin, (0.0, None))
        if task is None or time.monotonic() - asked_at > MAX_AGE_S:
            task = asyncio.create_task(self._fetch(origin))
            self._policies[origin] = time.monotonic(), task
        if task.done():
            return task.result()
        # Shielded, so that a cancelled page does not take the policy from the others.
        return await asyncio.shield(task)

    async def _fetch(self, origin: str) -> RobotsPolicy | Refusal:
        url = f"{origin}/robots.txt"
        try:
            answer = await self._follow(url, origin)
        except FetchError as failure:
            if failure.reason == "blocked_address":
                return Refusal(failure.reason, str(failure))
            return self._unreachable(origin, f"{url}: {failure.reason}: {failure}")
        if answer is not None and answer.status >= 500:
            return self._unreachable(origin, f"{url}: status {answer.status}")
        policy = self._read(answer)
        if answer is not None and _is_found(answer):
            self._copies.keep(origin, answer.body)
        return self._kept(origin, policy)

    async def _follow(self, url: str, origin: str) -> Response | None:
        """The file after up to five redirects; None after more, which counts as unavailable."""

        def keep_delay(answer: Response) -> None:
            # Before the host's next request, which may be another run's: the delay holds from the first one on.
            if answer.status < 300 or 400 <= answer.status < 500:
                self._keep_delay(origin, self._read(answer))

        for _ in range(MAX_HOPS + 1):
            answer = await self._client.get(Request(url, max_bytes=robots.MAX_BYTES, cut=True), keep_delay)
            if not 300 <= answer.status < 400:
                return answer
            target = canonical_url(answer.headers.get("location", ""), url)
            if target is None:
                return None
            url = target
        return None

    def _read(self, answer: Response | None) -> RobotsPolicy:
        return RobotsPolicy(answer.body if answer is not None and _is_found(answer) else b"", self._user_agent)

    def _unreachable(self, origin: str, why: str) -> RobotsPolicy | Refusal:
        copy = self._copies.recall(origin)
        if copy is None:
            return Refusal("robots_unreachable", why)
        policy = RobotsPolicy(copy, self._user_agent)
        self._keep_delay(origin, policy)
        return self._kept(origin, policy)

    def _keep_delay(self, origin: str, policy: RobotsPolicy) -> None:
        self._clocks.of(hostname_of(origin)).keep_crawl_delay(policy.crawl_delay or 0.0)

    def _kept(self, origin: str, policy: RobotsPolicy) -> RobotsPolicy | Refusal:
        if (policy.crawl_delay or 0.0) > LONGEST_WAIT_S:
            return Refusal("asked_to_wait", f"{origin}/robots.txt: Crawl-delay {policy.crawl_delay:g} s")
        return policy


def _is_found(answer: Response) -> bool:
    return 200 <= answer.status < 300


__all__ = ["Refusal", "RobotsCopies", "RobotsFiles"]
