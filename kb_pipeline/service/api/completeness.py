"""What became of every known key: documents, failures, what is left out and why."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field

from kb_pipeline.model import JsonObject
from kb_pipeline.service.api.shapes import After, Answer, AsOf, Limit, NextPage, NextSkip, Skip, page_after, page_from
from kb_pipeline.service.callers import HomeOfCaller
from kb_pipeline.service.names import KbInPath, open_kb

router = APIRouter(tags=["completeness"])


class Failure(Answer):
    """What could not be turned into searchable text."""

    id: str
    source: str
    stage: str
    key: str
    reason: str
    message: str
    recoverable: bool = Field(description="Whether it is tried again by itself.")
    attempts: int
    first_seen: datetime
    last_seen: datetime


class Failures(Answer):
    """Some failures, by id."""

    failures: list[Failure]
    total: int
    after: NextPage


class LeftOut(Answer):
    """A known key that has no document of its own."""

    source: str
    key: str
    stage: str
    reason: str
    category: str
    message: str
    remedy: str | None = Field(description="What would help; null where it is somebody's will.")
    since: datetime | None
    asked_at: datetime | None
    next_at: datetime | None


class LeftOutKeys(Answer):
    """Some of the keys that are left out."""

    left_out: list[LeftOut]
    skip: NextSkip


@router.get("/kbs/{kb}/failures")
def list_failures(kb: KbInPath, home: HomeOfCaller, limit: Limit = 100, after: After = "") -> Failures:
    """List what could not be turned into searchable text, at which stage and why."""
    found = open_kb(home, kb).failures()
    page, following = page_after(found, lambda each: each.id, after, limit)
    return Failures(failures=[Failure.model_validate(each) for each in page], total=len(found), after=following)


@router.get("/kbs/{kb}/account")
def show_account(kb: KbInPath, home: HomeOfCaller, as_of: AsOf = None) -> JsonObject:
    """Return what became of every known key, counted by reason; the numbers add up."""
    return open_kb(home, kb).account(as_of=as_of).as_json()


@router.get("/kbs/{kb}/left-out")
def list_left_out(
    kb: KbInPath,
    home: HomeOfCaller,
    reason: Annotated[str | None, Query(max_length=64, description="Only with this reason.")] = None,
    source: Annotated[str | None, Query(max_length=64, description="Only of this source.")] = None,
    limit: Limit = 100,
    skip: Skip = 0,
    as_of: AsOf = None,
) -> LeftOutKeys:
    """List the known keys that have no document of their own, each with its reason."""
    found = open_kb(home, kb).left_out(reason=reason, source=source, as_of=as_of)
    page, following = page_from(found, skip, limit)
    return LeftOutKeys(left_out=[LeftOut.model_validate(each) for each in page], skip=following)


@router.get("/kbs/{kb}/explain")
def explain_key(
    kb: KbInPath,
    home: HomeOfCaller,
    url: Annotated[str, Query(min_length=1, max_length=4096, description="An address, or the key of a document.")],
) -> Any:  # noqa: ANN401 - a nested record
    """Say what became of an address and by which rule, or what would be decided about one that was never met."""
    return open_kb(home, kb).explain(url).as_json()
