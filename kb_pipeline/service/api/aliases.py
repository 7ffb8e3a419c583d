"""Short names that other systems expect, of what has a longer one: crawls, workflows and pipelines are jobs."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from kb_pipeline.service.api.jobs import JobDetail, JobId, JobPage, JobStarted, Stats, list_jobs, show_job, start_job
from kb_pipeline.service.api.jobs import JobRequest as Options
from kb_pipeline.service.api.shapes import Answer, Limit, has_tag
from kb_pipeline.service.callers import HomeOfCaller
from kb_pipeline.service.idempotency import Once
from kb_pipeline.service.names import open_kb

router = APIRouter(tags=["aliases"])


class CrawlRequest(BaseModel):
    """Which KB to refresh."""

    model_config = ConfigDict(extra="forbid")
    kb: str = Field(max_length=127, examples=["acme.handbook"])
    force: bool = False
    retry: bool = False


class PipelineStatus(Answer):
    """What a page needs that asks every two seconds."""

    status: str
    current_stage: str | None
    progress_percentage: float
    stats: Stats
    started_at: datetime | None
    estimated_completion: datetime | None


@router.post("/crawl", status_code=202)
def crawl(home: HomeOfCaller, request: Request, response: Response, once: Once, asked: CrawlRequest) -> JobStarted:
    """Ask for a refresh of a KB: another name of `POST /kbs/{kb}/jobs`."""
    return start_job(asked.kb, home, request, response, once, Options(force=asked.force, retry=asked.retry))


@router.get("/workflows")
def list_workflows(
    home: HomeOfCaller,
    kb: Annotated[str | None, Query(max_length=127)] = None,
    state: Annotated[list[str] | None, Query()] = None,
    limit: Limit = 100,
    after: Annotated[str | None, Query(max_length=64)] = None,
) -> JobPage:
    """List jobs: another name of `GET /jobs`."""
    return list_jobs(home, kb, state, limit, after)


@router.get("/workflows/{job_id}")
def show_workflow(job_id: JobId, home: HomeOfCaller) -> JobDetail:
    """Show a job: another name of `GET /jobs/{job_id}`."""
    return show_job(job_id, home)


@router.get(
    "/pipelines/{id}/status", response_model=PipelineStatus, responses={304: {"description": "As the client has it."}}
)
def show_pipeline(
    pipeline: Annotated[str, Path(alias="id", max_length=127, description="A KB's id, or a job's.")],
    home: HomeOfCaller,
    response: Response,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Any:  # noqa: ANN401 - PipelineStatus, or 304 without a body
    """Say how far a job is, or the newest job of a KB; the same gives 304 to whoever sends its `ETag`."""
    job = open_kb(home, pipeline).newest_job() if "." in pipeline else home.job(pipeline)
    if job is None:
        return PipelineStatus(
            status="new", current_stage=None, progress_percentage=0.0, started_at=None, estimated_completion=None,
            stats=Stats(**dict.fromkeys(Stats.model_fields, 0)),
        )  # fmt: skip
    version = f"{job.id} {job.last_event} {job.state} {job.stage} {job.done} {job.total}"
    tag = f'"{hashlib.sha256(version.encode()).hexdigest()[:24]}"'
    if has_tag(if_none_match, tag):
        return Response(status_code=304, headers={"ETag": tag})
    response.headers["ETag"] = tag
    return PipelineStatus(
        status=job.state,
        current_stage=job.stage,
        progress_percentage=job.percent,
        stats=Stats.model_validate(job.stats),
        started_at=job.started_at,
        estimated_completion=job.estimated_completion,
    )
