"""Jobs: refreshes that were asked for, how far they are, what happens in them, live."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Header, Path, Query, Request, Response, WebSocket
from pydantic import BaseModel, ConfigDict, Field
from sse_starlette import EventSourceResponse
from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocketDisconnect

from kb_pipeline.errors import KbError, UsageError
from kb_pipeline.installation import Installation
from kb_pipeline.model import JsonObject
from kb_pipeline.service import problems
from kb_pipeline.service.api.shapes import Answer, Limit
from kb_pipeline.service.callers import HomeOfCaller
from kb_pipeline.service.idempotency import Once, say_replayed
from kb_pipeline.service.job_streams import JobStreams, read_event_number
from kb_pipeline.service.names import KbId, KbInPath, open_kb

router = APIRouter(tags=["jobs"])
JobId = Annotated[str, Path(max_length=64, description="As the answer that started it names it.")]
After = Annotated[str | None, Query(max_length=20, description="Instead of the header `Last-Event-ID`.")]
_HEARTBEAT_S = 15
_FAREWELL_S = 5.0
"""How long a stream has to end by itself when the process is told to end; it takes half a second."""


class Stats(Answer):
    """What a job has counted so far."""

    pages_discovered: int
    pages_scraped: int
    pages_failed: int
    chunks_created: int
    embeddings_generated: int
    vectors_indexed: int


class JobSummary(Answer):
    """A refresh of a KB, from the request to its end."""

    id: str
    kb: KbId
    state: str = Field(
        description="queued, running, or how it ended: ready, ready_with_warnings, unchanged, held, snoozed, partial, "
        "failed, cancelled."
    )
    options: list[str]
    requested_by: str
    requested_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    is_cancelling: bool
    run_id: str | None
    stage: str | None
    percent: float
    version: int | None
    message: str | None


class LogLine(Answer):
    """One thing that happened in a job."""

    at: datetime
    type: str
    stage: str | None
    message: str


class JobDetail(JobSummary):
    """A refresh of a KB in full."""

    done: int = Field(description="Units of the stage that are done.")
    total: int | None
    eta_s: float | None
    estimated_completion: datetime | None
    stats: Stats
    stages: dict[str, Any] = Field(description="The counts of each stage that has ended.")
    warnings: list[str]
    last_event: int = Field(description="The id of the newest event.")
    log: list[LogLine]


class JobPage(Answer):
    """Some jobs, the newest first."""

    jobs: list[JobSummary]
    after: str | None = Field(description="What to give as `after` for the next page; null on the last one.")


class JobStarted(Answer):
    """A job that was asked for."""

    job_id: str
    kb: KbId
    state: str
    tracking_url: str = Field(description="Where to ask how far it is.")
    events_url: str = Field(description="Where to be told (server-sent events).")


class JobRequest(BaseModel):
    """What the refresh is to do beside the usual."""

    model_config = ConfigDict(extra="forbid")
    force: bool = Field(default=False, description="Publish even what a check would hold; takes the scope manage.")
    retry: bool = Field(default=False, description="Request pages that failed again, however often they did.")


@router.post("/kbs/{kb}/jobs", status_code=202)
def start_job(
    kb: KbInPath, home: HomeOfCaller, request: Request, response: Response, once: Once, asked: JobRequest | None = None
) -> JobStarted:
    """Ask for a refresh; the daemon starts it in its tenant's turn. One that waits with the same options is named."""
    options = asked or JobRequest()
    job_id, is_replayed = open_kb(home, kb).start_job(force=options.force, retry=options.retry, once=once)
    urls = job_urls(request, job_id)
    response.headers["Location"] = urls["tracking_url"]
    say_replayed(response, is_replayed=is_replayed)
    return JobStarted(job_id=job_id, kb=kb, state="queued", **urls)


class RetryRequest(BaseModel):
    """Nothing is to be chosen: all that failed is requested again. What is given all the same is refused."""

    model_config = ConfigDict(extra="forbid")


@router.post("/kbs/{kb}/failures/retry", status_code=202)
def retry_failures(
    kb: KbInPath,
    home: HomeOfCaller,
    request: Request,
    response: Response,
    once: Once,
    asked: RetryRequest | None = None,
) -> JobStarted:
    """Ask for a refresh that requests all that failed again, however often it did: a job with the option `retry`."""
    return start_job(kb, home, request, response, once, JobRequest(retry=True))


@router.get("/jobs")
def list_jobs(
    home: HomeOfCaller,
    kb: Annotated[str | None, Query(max_length=127, description="Only of this KB.")] = None,
    state: Annotated[list[str] | None, Query(description="Only in one of these states.")] = None,
    limit: Limit = 100,
    after: Annotated[str | None, Query(max_length=64, description="Of the page before.")] = None,
) -> JobPage:
    """List the jobs of the KBs that the caller may see, the newest first."""
    before = None
    if after is not None:
        last = home.job(after)
        before = (last.requested_at, last.id)
    key = open_kb(home, kb).key if kb is not None else None
    found = home.jobs(kb=key, states=state or (), before=before, limit=limit)
    page = [JobSummary.model_validate(each) for each in found]
    return JobPage(jobs=page, after=page[-1].id if len(page) == limit else None)


@router.get("/jobs/{job_id}")
def show_job(job_id: JobId, home: HomeOfCaller) -> JobDetail:
    """Say how far a job is, what it counted, what to know of it, and what happened, without its progress."""
    return _detail(home, job_id)


@router.post("/jobs/{job_id}/cancel", status_code=202)
def cancel_job(job_id: JobId, home: HomeOfCaller) -> JobDetail:
    """Withdraw a job that waits, or tell its run to end; what it fetched is kept, and the live version stays."""
    home.cancel_job(job_id)
    return _detail(home, job_id)


@router.get("/jobs/{job_id}/events", response_class=EventSourceResponse)
async def stream_events(
    job_id: JobId,
    home: HomeOfCaller,
    request: Request,
    after: After = None,
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
) -> Response:
    """Stream a job's events (server-sent events) until it has ended.

    Each has a number as its id, without a gap: whoever sends the last one as `Last-Event-ID` misses none and gets none
    twice, also after the service or the run was killed.
    """
    number = await _start_of(home, job_id, last_event_id or after)
    streams = _streams(request)

    async def frames() -> AsyncIterator[JsonObject]:
        async for event in streams.follow(home, job_id, number):
            yield {"id": str(event["id"]), "event": event["type"], "data": json.dumps(event, ensure_ascii=False)}

    return EventSourceResponse(
        frames(), ping=_HEARTBEAT_S, sep="\n", shutdown_event=anyio.Event(), shutdown_grace_period=_FAREWELL_S
    )


@router.websocket("/jobs/{job_id}/ws")
async def send_events(socket: WebSocket, job_id: JobId, after: After = None) -> None:
    """Send a job's events as JSON until it has ended; `after` as for server-sent events."""
    home: Installation = socket.state.home
    try:
        number = await _start_of(home, job_id, after)
    except KbError as error:
        await socket.send_denial_response(problems.of_error(error))
        return
    await socket.accept()
    sending = asyncio.create_task(_send(socket, home, job_id, number))
    leaving = asyncio.create_task(_wait_for_end(socket))
    try:
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, leaving):
            task.cancel()
        for done in await asyncio.gather(sending, leaving, return_exceptions=True):
            if isinstance(done, Exception) and not isinstance(done, (WebSocketDisconnect, RuntimeError)):
                raise done


async def _send(socket: WebSocket, home: Installation, job_id: str, after: int) -> None:
    with suppress(WebSocketDisconnect):
        async for event in _streams(socket).follow(home, job_id, after):
            await socket.send_text(json.dumps(event, ensure_ascii=False))
        await socket.close()


async def _wait_for_end(socket: WebSocket) -> None:
    """Return when the client has gone; what it sends is not for us."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


async def _start_of(home: Installation, job_id: str, given: str | None) -> int:
    """Return the number of the event after which to begin; raise for a job or an event that there is not."""
    number = read_event_number(given)
    job = await run_in_threadpool(home.job, job_id)
    if number > job.last_event:
        raise UsageError(f"event {number} of the job has not happened; its newest is {job.last_event}")
    return number


def job_urls(request: Request, job_id: str) -> dict[str, str]:
    """Return where a job is told of, as paths: the service does not know by which name clients reach it."""
    names = {"tracking_url": "show_job", "events_url": "stream_events"}
    return {field: str(request.app.url_path_for(name, job_id=job_id)) for field, name in names.items()}


def _streams(connection: Request | WebSocket) -> JobStreams:
    streams: JobStreams = connection.app.state.job_streams
    return streams


def _detail(home: Installation, job_id: str) -> JobDetail:
    job = home.job(job_id)
    log = [
        LogLine(at=each.at, type=each.type, stage=each.body.get("stage"), message=each.body.get("message", ""))
        for each in home.job_log(job_id)
    ]
    shown = {name: getattr(job, name) for name in JobDetail.model_fields if name != "log"}
    return JobDetail.model_validate(shown | {"log": log, "stats": Stats.model_validate(job.stats)})
