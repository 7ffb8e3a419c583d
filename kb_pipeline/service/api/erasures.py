"""Erasing documents: from every kept version, raw bytes, caches and indexes, for good."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from kb_pipeline.model import JsonObject
from kb_pipeline.service.api.shapes import Answer
from kb_pipeline.service.callers import HomeOfCaller
from kb_pipeline.service.names import KbId, KbInPath, open_kb

router = APIRouter(tags=["erasures"])


class KeyOfDocument(BaseModel):
    """Which document is meant."""

    model_config = ConfigDict(extra="forbid")
    key: str = Field(min_length=1, max_length=4096, description="Its URL, path or row id.")


class ErasureRequest(KeyOfDocument):
    """Which document is to be erased."""

    dry_run: bool = Field(default=False, description="Whether to only say what would be removed.")


class ErasurePlanned(Answer):
    """What would be removed; nothing was."""

    status: Literal["planned"] = "planned"
    id: KbId = Field(validation_alias="kb")
    key: str
    document_ids: list[str]
    versions: list[int]
    pending_versions: list[int]
    chunks: int
    bodies: int
    bytes: int
    vectors: int
    same_content_at: list[str] = Field(description="Keys of other documents that say the same, which stay.")


class Erased(Answer):
    """The receipt of an erasure, which is kept for good."""

    id: KbId = Field(validation_alias="kb")
    key: str
    status: Literal["unfinished", "erased"]
    document_ids: list[str]
    erased_at: datetime
    by: str
    versions: list[int]
    same_content_at: list[str]
    not_reached: list[str] = Field(description="Where copies may be that we cannot reach, such as backups.")
    receipt: JsonObject = Field(description="All of it: each place, what was removed there, and the checks after.")


@router.post("/kbs/{kb}/erasures")
def erase_document(kb: KbInPath, asked: ErasureRequest, home: HomeOfCaller) -> ErasurePlanned | Erased:
    """Erase a document for good, or say what that would remove. What was erased is not fetched again."""
    opened = open_kb(home, kb)
    if asked.dry_run:
        return ErasurePlanned.model_validate(opened.erasure_plan(asked.key))
    return _erased(kb, opened.erase(asked.key).as_json())


@router.post("/kbs/{kb}/erasures/lift")
def lift_erasure(kb: KbInPath, asked: KeyOfDocument, home: HomeOfCaller) -> Erased:
    """Let an erased document be fetched again."""
    return _erased(kb, open_kb(home, kb).lift_erasure(asked.key).as_json())


def _erased(kb: str, receipt: JsonObject) -> Erased:
    return Erased.model_validate(receipt | {"kb": kb, "receipt": receipt})
