"""Counts the documents of a version by language."""

from __future__ import annotations

from collections.abc import Mapping

from kb_pipeline.index.reader import VersionReader
from kb_pipeline.store.stage_tables import kept_documents


def count_languages(version: VersionReader) -> dict[str, int]:
    """Return the number of documents in each language, the most frequent first; raises DamagedStore."""
    documents = version.table("documents")
    languages = documents.read_columns(["language"], kept_documents(documents.schema.names))["language"]
    counts: dict[str, int] = dict(languages.value_counts().iter_rows())
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))


def list_languages(counts: Mapping[str, int]) -> str:
    """Return languages and numbers of documents for people: `en 120, de 14`."""
    return ", ".join(f"{language} {count}" for language, count in counts.items()) or "none"
