"""Versions of a KB: which there are, what changed from one to another, going back, letting a held one through."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from kb_pipeline.service.api.shapes import Answer
from kb_pipeline.service.callers import HomeOfCaller
from kb_pipeline.service.names import KbId, KbInPath, open_kb

router = APIRouter(tags=["versions"])

_MOST_NAMED = 1000
"""Keys of each kind that a difference names; the feed has all of them."""
VersionNumber = Annotated[int, Path(ge=1, le=2**31 - 1, description="A version's number.")]
From = Annotated[str, Query(alias="from", max_length=64, description="The earlier version: its number, or a time.")]
To = Annotated[str | None, Query(max_length=64, description="The later version; the live one without it.")]


class VersionShown(Answer):
    """One version."""

    version: int
    live: bool
    status: str
    created_at: datetime
    documents: int | None
    chunks: int | None
    model: str | None
    scores: dict[str, float]
    run_id: str


class Versions(Answer):
    """The versions of a KB, newest first."""

    versions: list[VersionShown]


class ChangeCounts(Answer):
    """How many there are of each kind."""

    added: int
    changed: int = 0
    removed: int
    unchanged: int


class Difference(Answer):
    """What one version added to, changed in and removed from another."""

    id: KbId = Field(validation_alias="kb")
    earlier: int
    later: int
    documents: ChangeCounts
    chunks: ChangeCounts = Field(description="A chunk is its text: with another it is another.")
    added: list[str] = Field(description=f"Keys of documents, at most {_MOST_NAMED:,}; the feed has all.")
    changed: list[str]
    removed: list[str]


class RollbackRequest(BaseModel):
    """Which version is to be live again."""

    model_config = ConfigDict(extra="forbid")
    version: int = Field(ge=1, le=2**31 - 1)


class RolledBack(Answer):
    """An earlier version is live again."""

    id: KbId = Field(validation_alias="kb")
    version: int
    rolled_back: int = Field(description="The version that was live before.")


class Approved(Answer):
    """A version that was held is live."""

    id: KbId = Field(validation_alias="kb")
    version: int
    status: Literal["published"]


@router.get("/kbs/{kb}/versions")
def list_versions(kb: KbInPath, home: HomeOfCaller) -> Versions:
    """List the versions, newest first."""
    return Versions(versions=[VersionShown.model_validate(each) for each in open_kb(home, kb).versions()])


@router.get("/kbs/{kb}/diff")
def diff_versions(kb: KbInPath, home: HomeOfCaller, earlier: From, to: To = None) -> Difference:
    """Return what changed from one version to another, counted, and the first documents of each kind by key."""
    found = open_kb(home, kb).diff(earlier, to).as_json()
    named = {kind: found[kind][:_MOST_NAMED] for kind in ("added", "changed", "removed")}
    return Difference.model_validate(found | named | {"kb": kb, "earlier": found["from"], "later": found["to"]})


@router.get(
    "/kbs/{kb}/feed",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/jsonl": {"schema": {"type": "string"}}}}},
)
def feed_changes(kb: KbInPath, home: HomeOfCaller, earlier: From, to: To = None) -> StreamingResponse:
    """Return every change from one version to another, one JSON object a line, to be applied in order."""
    changes = open_kb(home, kb).change_feed(earlier, to)

    def lines() -> Iterator[str]:
        for change in changes:
            yield json.dumps(change.as_json(), ensure_ascii=False) + "\n"

    return StreamingResponse(lines(), media_type="application/jsonl")


@router.post("/kbs/{kb}/rollback")
def roll_back(kb: KbInPath, asked: RollbackRequest, home: HomeOfCaller) -> RolledBack:
    """Make an earlier version live again: nothing is fetched, embedded or copied."""
    return RolledBack.model_validate(open_kb(home, kb).rollback(asked.version))


@router.post("/kbs/{kb}/versions/{version}/approve")
def approve_version(kb: KbInPath, version: VersionNumber, home: HomeOfCaller) -> Approved:
    """Make a version live that a check held."""
    return Approved.model_validate(open_kb(home, kb).approve(version))
