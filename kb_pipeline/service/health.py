"""Whether the process lives, and whether what it depends on can be used: for those who restart it or send requests."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from kb_pipeline.installation import Installation
from kb_pipeline.service import problems
from kb_pipeline.service.problems import Problem

if TYPE_CHECKING:
    from kb_pipeline.operations.readiness import Dependency

logger = logging.getLogger(__name__)
health = APIRouter(tags=["health"])

_KEPT_S = 2.0
"""For how long a finding holds: anybody may ask, and each look writes to the disk."""
_LONGEST_S = 10.0
"""What takes longer to answer is as good as away."""


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    """Requests can be answered."""

    status: Literal["ready"] = "ready"
    dependencies: dict[str, Literal["ok", "away"]] = Field(
        description="What is `away` here is not needed for reading: without a daemon, refreshes wait."
    )


class Readiness:
    """What was found last of the things that the service depends on; at most one look at a time is under way."""

    def __init__(self, home: Installation) -> None:
        self._home = home
        self._look: asyncio.Task[list[Dependency]] | None = None
        self._ended_at = 0.0
        self._away: frozenset[str] = frozenset()

    async def find(self) -> list[Dependency]:
        """Return how each dependency is; raises TimeoutError when they do not answer in ten seconds."""
        if self._look is None or (self._look.done() and time.monotonic() - self._ended_at > _KEPT_S):
            self._look = asyncio.create_task(self._find())
        return await asyncio.wait_for(asyncio.shield(self._look), _LONGEST_S)

    async def _find(self) -> list[Dependency]:
        try:
            found = await run_in_threadpool(self._home.dependencies)
        finally:
            self._ended_at = time.monotonic()
        self._log_changes(found)
        return found

    def _log_changes(self, found: Sequence[Dependency]) -> None:
        """Say what went away or came back; whoever asks every few seconds fills no log."""
        before, self._away = self._away, frozenset(each.name for each in found if not each.ok)
        for each in found:
            if not each.ok and each.name not in before:
                logger.warning("%s: %s", each.name, each.detail)
            elif each.ok and each.name in before:
                logger.info("%s: can be used again", each.name)


@health.get("/healthz")
async def is_alive() -> Alive:
    """Say that the process answers; it asks nothing that it depends on."""
    return Alive()


@health.get("/readyz", response_model=Ready, responses={503: {"model": Problem}})
async def is_ready(request: Request) -> Any:  # noqa: ANN401 - Ready, or a problem
    """Say whether KBs can be read: the control plane answers, storage takes and gives back, the model opens.

    Strangers may ask, so that it names what is away and leaves the reason to the log.
    """
    readiness: Readiness = request.app.state.readiness
    try:
        found = await readiness.find()
    except TimeoutError:
        return _unready("do not answer", [])
    lost = [each.name for each in found if each.is_required and not each.ok]
    if lost:
        return _unready(f"cannot be used: {', '.join(lost)}", lost)
    return Ready(dependencies={each.name: "ok" if each.ok else "away" for each in found})


def _unready(what: str, lost: Sequence[str]) -> Response:
    found = [{"pointer": f"/{name}", "detail": "cannot be used"} for name in lost]
    detail = f"the things that KBs are read with {what}; the service's log says why"
    return problems.problem(503, "unready", "The service cannot answer now", detail, found, {"Retry-After": "5"})
