"""Versions of a KB, and what changed from one to another."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter

from kb_pipeline.service.api.shapes import Answer
from kb_pipeline.service.callers import HomeOfCaller
from kb_pipeline.service.names import KbInPath, open_kb

router = APIRouter(tags=["versions"])


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


@router.get("/kbs/{kb}/versions")
def list_versions(kb: KbInPath, home: HomeOfCaller) -> Versions:
    """List the versions, newest first."""
    return Versions(versions=[VersionShown.model_validate(each) for each in open_kb(home, kb).versions()])
