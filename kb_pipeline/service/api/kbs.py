"""KBs: which there are, and how each stands."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from kb_pipeline.service.api.shapes import Answer, Limit
from kb_pipeline.service.callers import HomeOfCaller
from kb_pipeline.service.names import KbId, KbInPath, kb_id, open_kb

router = APIRouter(tags=["KBs"])


class KbSummary(Answer):
    """How one KB stands."""

    id: KbId = Field(validation_alias="kb")
    status: str
    live_version: int | None
    documents: int
    chunks: int
    failures: int
    held_version: int | None
    last_refresh_at: datetime | None
    next_refresh_at: datetime | None


class KbPage(Answer):
    """Some KBs, by id."""

    kbs: list[KbSummary]
    after: str | None = Field(description="What to give as `after` for the next page; null on the last one.")


class Progress(Answer):
    """How far the refresh is that runs."""

    stage: str | None
    done: int
    total: int | None
    eta_s: float | None


class KbDetail(Answer):
    """How one KB stands, in full."""

    id: KbId = Field(validation_alias="kb")
    status: str
    live_version: int | None
    documents: int
    chunks: int
    languages: dict[str, int]
    model: str | None
    running: Progress | None
    held_version: int | None
    held_because: str | None
    failures: int


class KbFile(Answer):
    """The KB file in force."""

    id: KbId = Field(validation_alias="kb")
    revision: int
    applied_at: datetime
    applied_by: str
    yaml: str


@router.get("/kbs")
def list_kbs(
    home: HomeOfCaller,
    limit: Limit = 100,
    after: Annotated[str, Query(description="Of the page before.", max_length=127)] = "",
) -> KbPage:
    """List the KBs that the caller may see, by id."""
    found = [each for each in home.overview() if kb_id(each.kb) > after]
    page = [KbSummary.model_validate(each) for each in found[:limit]]
    return KbPage(kbs=page, after=page[-1].id if len(found) > limit else None)


@router.get("/kbs/{kb}")
def show_kb(kb: KbInPath, home: HomeOfCaller) -> KbDetail:
    """Say how a KB stands: its live version, what runs now, what waits."""
    return KbDetail.model_validate(open_kb(home, kb).status())


@router.get("/kbs/{kb}/file")
def show_kb_file(kb: KbInPath, home: HomeOfCaller) -> KbFile:
    """Return the KB file in force, with `${NAME}` as it is written."""
    return KbFile.model_validate(open_kb(home, kb).file())
