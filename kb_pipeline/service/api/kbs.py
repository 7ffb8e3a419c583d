"""KBs: which there are, how each stands, their files and settings, and removing one."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Response
from pydantic import Field

from kb_pipeline.errors import UsageError
from kb_pipeline.model import JsonObject
from kb_pipeline.operations.apply import KbText
from kb_pipeline.operations.merge_patch import merge_patch
from kb_pipeline.service.api.file_in_body import as_yaml, describe_file, file_in_body
from kb_pipeline.service.api.shapes import After, Answer, Limit, NextPage, page_after
from kb_pipeline.service.callers import HomeOfCaller
from kb_pipeline.service.names import KbId, KbInPath, kb_id, kb_key, open_kb

if TYPE_CHECKING:
    from kb_pipeline.installation import Installation

router = APIRouter(tags=["KBs"])

DryRun = Annotated[bool, Query(description="Whether to only say what would change.")]


class KbSummary(Answer):
    """How one KB stands."""

    id: KbId = Field(validation_alias="kb")
    status: str
    live_version: int | None
    documents: int
    chunks: int
    model: str | None
    failures: int
    held_version: int | None
    last_refresh_at: datetime | None
    next_refresh_at: datetime | None
    created_at: datetime


class KbPage(Answer):
    """Some KBs, by id."""

    kbs: list[KbSummary]
    after: NextPage


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
def list_kbs(home: HomeOfCaller, limit: Limit = 100, after: After = "") -> KbPage:
    """List the KBs that the caller may see, by id."""
    page, following = page_after(home.overview(), lambda each: kb_id(each.kb), after, limit)
    return KbPage(kbs=[KbSummary.model_validate(each) for each in page], after=following)


@router.get("/kbs/{kb}")
def show_kb(kb: KbInPath, home: HomeOfCaller) -> KbDetail:
    """Say how a KB stands: its live version, what runs now, what waits."""
    return KbDetail.model_validate(open_kb(home, kb).status())


@router.get("/kbs/{kb}/file")
def show_kb_file(kb: KbInPath, home: HomeOfCaller) -> KbFile:
    """Return the KB file in force, with `${NAME}` as it is written."""
    return KbFile.model_validate(open_kb(home, kb).file())


class Settings(Answer):
    """The fields of the KB file in force, as they are written: `${NAME}` stays, and what is not written is not here."""

    id: KbId
    revision: int
    settings: dict[str, Any]


class Change(Answer):
    """One field that was changed, or would be."""

    field: str
    before: Any
    after: Any


class Applied(Answer):
    """What applying a KB file did, or would do."""

    id: KbId = Field(validation_alias="kb")
    action: str = Field(description="created, updated or unchanged.")
    dry_run: bool = Field(validation_alias="is_dry")
    warnings: list[str]
    changes: list[Change] = Field(description="Told by a dry run.")
    effects: list[str] = Field(description="What the next refresh would do because of it; told by a dry run.")


FileInBody = Annotated[str, Depends(file_in_body("KB"))]


@router.post("/kbs", openapi_extra=describe_file("KB"))
def apply_kb_file(home: HomeOfCaller, file: FileInBody, response: Response, dry_run: DryRun = False) -> Applied:
    """Create or update the KB that the file in the body names; nothing changes unless it is valid."""
    return _apply(home, file, response, dry_run=dry_run)


@router.get("/kbs/{kb}/settings")
def show_settings(kb: KbInPath, home: HomeOfCaller) -> Settings:
    """Return the fields of the KB file in force."""
    file = open_kb(home, kb).file()
    return Settings(id=kb, revision=file.revision, settings=file.fields())


@router.patch("/kbs/{kb}/settings")
def change_settings(
    kb: KbInPath,
    home: HomeOfCaller,
    response: Response,
    patch: Annotated[JsonObject, Body(description="JSON Merge Patch (RFC 7396): null removes a field.")],
    dry_run: DryRun = False,
) -> Applied:
    """Change some fields of the KB file in force, as if it were applied anew; comments in it are lost."""
    opened = open_kb(home, kb)
    changed = merge_patch(opened.file().fields(), patch)
    key = kb_key(kb)
    if not isinstance(changed, dict) or (changed.get("tenant"), changed.get("kb")) != (key.tenant, key.kb):
        raise UsageError(f"a KB keeps its name: leave out 'tenant' and 'kb', which are {key.tenant} and {key.kb}")
    return _apply(home, as_yaml(changed), response, dry_run=dry_run)


@router.delete("/kbs/{kb}")
def delete_kb(kb: KbInPath, home: HomeOfCaller, dry_run: DryRun = False) -> JsonObject:
    """Remove a KB at once, everything of it, and return the receipt; or say what would be removed."""
    opened = open_kb(home, kb)
    if dry_run:
        return home.deletion_plan(opened.key).as_json()
    return home.delete_kb(opened.key).as_json()


def _apply(home: Installation, file: str, response: Response, *, dry_run: bool) -> Applied:
    (applied,) = home.apply(KbText(file), dry_run=dry_run)
    if applied.action == "created" and not dry_run:
        response.status_code = 201
        response.headers["Location"] = f"/api/v1/kbs/{kb_id(applied.kb)}"
    return Applied.model_validate(applied)
