"""Drafts of KBs: written piece by piece, tried out, checked, and made a KB with its first job in one step."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from kb_pipeline.service.api.jobs import job_urls
from kb_pipeline.service.api.shapes import Answer
from kb_pipeline.service.callers import HomeOfCaller
from kb_pipeline.service.idempotency import Once, say_replayed
from kb_pipeline.service.names import KbId

router = APIRouter(prefix="/kb-drafts", tags=["drafts"])
DraftId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="As the answer that created it names it.")]
Tenant = Annotated[str | None, Query(max_length=63, description="For an operator: whose; a token's own otherwise.")]
Fields = Annotated[dict[str, Any], Body(description="Fields of a KB file, as far as they are known.")]
Section = Annotated[dict[str, Any], Body(description="The section, whole.")]


class Draft(Answer):
    """A KB file that is being written."""

    id: str
    tenant: str
    body: dict[str, Any] = Field(description="The fields so far; they need not be valid.")
    created_by: str
    created_at: datetime
    updated_at: datetime
    expires_at: datetime


class Drafts(Answer):
    """The drafts of a tenant, the newest first."""

    drafts: list[Draft]


class DraftProblem(Answer):
    """One thing that is wrong with a draft."""

    pointer: str = Field(description="JSON pointer into the draft's body.")
    detail: str


class Verdict(Answer):
    """Whether a draft can be finished as it is."""

    valid: bool
    problems: list[DraftProblem]
    warnings: list[str]
    effects: list[str] = Field(description="What the first refresh will do.")


class PreviewChunk(Answer):
    """A chunk, with its place in the page's Markdown."""

    start: int
    end: int
    headings: list[str]
    text: str
    tokens: int


class PreviewPage(Answer):
    """What became of one page."""

    source: str
    key: str
    outcome: str = Field(description="document, rejected or failed.")
    reason: str | None
    message: str | None
    title: str | None
    language: str | None
    markdown: str | None
    kept_words: int
    dropped_words: dict[str, int] = Field(description="Words that cleaning removed, by reason.")
    chunks: list[PreviewChunk]


class Preview(Answer):
    """What became of a few pages."""

    pages: list[PreviewPage]


class Figure(Answer):
    """A figure that is not known exactly."""

    low: float
    expected: float
    high: float
    how: str = Field(description="How it was obtained.")


class Estimate(Answer):
    """What a first refresh takes."""

    pages: Figure
    bytes: Figure
    tokens: Figure
    cost: Figure
    minutes: Figure
    sampled_pages: int


class PreviewRequest(BaseModel):
    """How much to try out."""

    model_config = ConfigDict(extra="forbid")
    pages: int = Field(default=3, ge=1, le=10, description="The most of each source.")


class Finished(Answer):
    """A KB and the job of its first refresh."""

    kb_id: KbId
    job_id: str
    tracking_url: str
    events_url: str
    estimated_completion: datetime | None = Field(description="By the newest estimate of the draft; null without one.")


@router.post("", status_code=201)
def create_draft(
    home: HomeOfCaller, response: Response, request: Request, body: Fields, tenant: Tenant = None
) -> Draft:
    """Begin a draft with any of a KB file's fields; it expires after 24 hours."""
    draft = home.drafts.create(body, tenant)
    response.headers["Location"] = str(request.app.url_path_for("show_draft", draft_id=draft.id))
    return Draft.model_validate(draft)


@router.get("")
def list_drafts(home: HomeOfCaller, tenant: Tenant = None) -> Drafts:
    """List the drafts that have not expired, the newest first."""
    return Drafts(drafts=[Draft.model_validate(each) for each in home.drafts.list(tenant)])


@router.get("/{draft_id}")
def show_draft(draft_id: DraftId, home: HomeOfCaller, tenant: Tenant = None) -> Draft:
    """Return a draft."""
    return Draft.model_validate(home.drafts.get(draft_id, tenant))


@router.patch("/{draft_id}")
def patch_draft(draft_id: DraftId, home: HomeOfCaller, patch: Fields, tenant: Tenant = None) -> Draft:
    """Change fields by a JSON merge patch (RFC 7396): null removes one, lists are replaced whole."""
    return Draft.model_validate(home.drafts.patch(draft_id, patch, tenant))


@router.delete("/{draft_id}", status_code=204)
def delete_draft(draft_id: DraftId, home: HomeOfCaller, tenant: Tenant = None) -> None:
    """Delete a draft."""
    home.drafts.delete(draft_id, tenant)


@router.post("/{draft_id}/sources")
def put_source(draft_id: DraftId, home: HomeOfCaller, source: Section, tenant: Tenant = None) -> Draft:
    """Add a source, in the place of the one of that name if there is one."""
    return Draft.model_validate(home.drafts.put_source(draft_id, source, tenant))


@router.delete("/{draft_id}/sources/{name}")
def remove_source(
    draft_id: DraftId, name: Annotated[str, Path(max_length=63)], home: HomeOfCaller, tenant: Tenant = None
) -> Draft:
    """Remove a source."""
    return Draft.model_validate(home.drafts.remove_source(draft_id, name, tenant))


@router.put("/{draft_id}/chunking")
def put_chunking(draft_id: DraftId, home: HomeOfCaller, chunking: Section, tenant: Tenant = None) -> Draft:
    """Say how documents are split."""
    return Draft.model_validate(home.drafts.put_section(draft_id, "chunking", chunking, tenant))


@router.put("/{draft_id}/embedding")
def put_embedding(draft_id: DraftId, home: HomeOfCaller, embedding: Section, tenant: Tenant = None) -> Draft:
    """Say which model gives the vectors."""
    return Draft.model_validate(home.drafts.put_section(draft_id, "embedding", embedding, tenant))


@router.post("/{draft_id}/validate")
def validate_draft(draft_id: DraftId, home: HomeOfCaller, tenant: Tenant = None) -> Verdict:
    """Say what is wrong, with JSON pointers, or what finishing the draft would do; nothing changes."""
    return Verdict.model_validate(home.drafts.validate(draft_id, tenant))


@router.post("/{draft_id}/preview")
def preview_draft(
    draft_id: DraftId, home: HomeOfCaller, asked: PreviewRequest | None = None, tenant: Tenant = None
) -> Preview:
    """Fetch a few real pages, clean and chunk them by the draft's rules: what a refresh would publish of them."""
    return Preview.model_validate(home.drafts.preview(draft_id, (asked or PreviewRequest()).pages, tenant))


@router.post("/{draft_id}/estimate")
def estimate_draft(draft_id: DraftId, home: HomeOfCaller, tenant: Tenant = None) -> Estimate:
    """Say what a first refresh takes: pages, bytes, tokens, cost, minutes, each as a range and how it was obtained."""
    return Estimate.model_validate(home.drafts.estimate(draft_id, tenant))


@router.post("/{draft_id}/finalize", status_code=202)
def finalize_draft(
    draft_id: DraftId, home: HomeOfCaller, request: Request, response: Response, once: Once, tenant: Tenant = None
) -> Finished:
    """Make the draft a KB and ask for its first refresh, in one step in which the draft goes."""
    done = home.drafts.finalize(draft_id, tenant, once=once)
    urls = job_urls(request, done.job_id)
    response.headers["Location"] = urls["tracking_url"]
    say_replayed(response, is_replayed=done.is_replayed)
    return Finished.model_validate(
        {"kb_id": done.kb, "job_id": done.job_id, "estimated_completion": done.estimated_completion, **urls}
    )
