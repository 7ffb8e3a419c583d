"""Follows jobs for those who wait for their events: one question to the control plane a moment, however many wait.

A stream holds neither a thread nor a connection to the database while nothing happens, and reads on only when its
client has taken what it was sent: a slow one costs one page of events.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from starlette.concurrency import run_in_threadpool

from kb_pipeline.errors import KbError, UsageError, is_database_error
from kb_pipeline.installation import Installation
from kb_pipeline.model import JsonObject

logger = logging.getLogger(__name__)

_POLL_S = 0.5
_PAGE = 100
_JOBS_AT_ONCE = 500
"""In one question."""


@dataclass(eq=False, slots=True)
class _Watched:
    """A job that somebody waits for."""

    newest: int = 0
    """The number of its newest event, as far as is known."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    streams: int = 0


class JobStreams:
    """The streams of one process.

    Args:
        home: opened by the operator: which tenant's job somebody may follow is decided before.
    """

    def __init__(self, home: Installation) -> None:
        self._home = home
        self._watched: dict[tuple[str, str], _Watched] = {}
        self._poller: asyncio.Task[None] | None = None
        self.is_stopping = False
        """Whether the process is about to end: every stream then ends, to be taken up again elsewhere."""

    async def follow(self, home: Installation, job_id: str, after: int) -> AsyncIterator[JsonObject]:
        """Yield the events of a job that come after a number, until it has ended or the process is about to.

        Args:
            home: opened for the caller.
            job_id: a job that the caller may see.
            after: the number of the last event that the caller has.
        """
        job = await run_in_threadpool(home.job, job_id)
        with self._watching(job.kb.tenant, job.id) as watched:
            while True:
                events = await run_in_threadpool(home.job_events, job_id, after=after, limit=_PAGE)
                for event in events:
                    after = event.id
                    yield event.as_json()
                if len(events) == _PAGE and not self.is_stopping:
                    continue
                job = await run_in_threadpool(home.job, job_id)
                if self.is_stopping or (job.has_ended and job.last_event <= after):
                    return
                watched.newest = max(watched.newest, job.last_event)
                while watched.newest <= after and not self.is_stopping:
                    watched.changed.clear()
                    await watched.changed.wait()

    @contextmanager
    def _watching(self, tenant: str, job_id: str) -> Iterator[_Watched]:
        place = (tenant, job_id)
        watched = self._watched.setdefault(place, _Watched())
        watched.streams += 1
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        try:
            yield watched
        finally:
            watched.streams -= 1
            if not watched.streams:
                self._watched.pop(place, None)

    async def _poll(self) -> None:
        """Look for news as long as anybody waits."""
        while self._watched:
            await asyncio.sleep(_POLL_S)
            if _server_is_ending():
                self.is_stopping = True
                for watched in self._watched.values():
                    watched.changed.set()
                return
            by_tenant: dict[str, list[str]] = {}
            for tenant, job_id in self._watched:
                by_tenant.setdefault(tenant, []).append(job_id)
            for tenant, job_ids in by_tenant.items():
                for start in range(0, len(job_ids), _JOBS_AT_ONCE):
                    await self._look(tenant, job_ids[start : start + _JOBS_AT_ONCE])

    async def _look(self, tenant: str, job_ids: list[str]) -> None:
        try:
            newest = await run_in_threadpool(self._home.newest_events, tenant, job_ids)
        except Exception as error:  # those who wait go on waiting; whoever asks anew is told what is wrong
            if not isinstance(error, KbError) and not is_database_error(error):
                raise
            logger.warning("jobs cannot be followed for the moment: %s", str(error).partition("\n")[0])
            newest = {}
        for job_id in job_ids:
            watched = self._watched.get((tenant, job_id))
            number = newest.get(job_id)
            if watched is not None and number is not None and number > watched.newest:
                watched.newest = number
                watched.changed.set()


def read_event_number(given: str | None) -> int:
    """Return the number of the event after which a stream goes on, 0 without one; raise UsageError."""
    with suppress(ValueError):
        if (number := int(given or 0)) >= 0:
            return number
    raise UsageError(f"{(given or '')[:40]!r} is no event's id; give the id of the last event that was received")


def _server_is_ending() -> bool:
    """Return whether uvicorn was told to end: it waits for responses before it says so to the application."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return bool(getattr(server, "should_exit", False))
