"""Manifests of versions that no build made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from kb_pipeline.model import EmbeddingModel, KbKey
from kb_pipeline.store.manifest import Content, Counts, Manifest, TablePin
from kb_pipeline.store.stage_tables import ROLES

MODEL = EmbeddingModel("by-hand", "f" * 32, 8)


def manifest_of(
    kb: KbKey,
    number: int,
    *,
    tables: Mapping[str, TablePin] | None = None,
    counts: Counts | None = None,
    model: EmbeddingModel = MODEL,
    **fields: Any,
) -> Manifest:
    """Return a manifest with these fields, and plausible values for the others."""
    manifest = Manifest(
        kb=kb,
        version=number,
        created_at=datetime(2026, 11, 21, 8, 30, 15, 123, UTC),
        run_id=f"run-{number}",
        tables=tables or {role: TablePin(role, number) for role in ROLES},
        spec={"sources": "a" * 32},
        model=model,
        code={"clean": "1", "chunk": "2", "index": "1"},
        content=Content(counts or Counts(number, 3 * number), {"en": number}, f"{number:064}"),
        rules={"clean": {"version": "1", "min_words": 1}, "chunk": {"version": "2", "preserve_code": True}},
        libraries={"lxml": "6.0"},
    )
    return replace(manifest, **fields)
