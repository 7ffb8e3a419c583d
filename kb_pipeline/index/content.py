"""Says what a version contains: its counts, its languages, and one hash of what a reader can find."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from kb_pipeline.store.manifest import Content, Counts
from kb_pipeline.store.stage_tables import kept_documents
from kb_pipeline.store.table import LanceTable

_Rows = Sequence[tuple[str, str]]
"""Id and hash of each."""


def describe_content(documents: LanceTable, index: LanceTable, model_fingerprint: str, index_version: str) -> Content:
    """Count and hash what the tables `documents` and `index` hold.

    Args:
        documents: pinned to the version.
        index: pinned to the version.
        model_fingerprint: of the model that made the vectors.
        index_version: of the code that made the index.
    """
    where = kept_documents(documents.schema.names)
    kept = documents.read_columns(["document_id", "document_hash", "language"], where)
    chunks = index.read_columns(["chunk_id", "document_hash"])
    return Content(
        Counts(kept.height, chunks.height),
        dict(kept["language"].value_counts(sort=True).iter_rows()),
        hash_content(
            model_fingerprint, index_version, kept.select("document_id", "document_hash").rows(), chunks.rows()
        ),
    )


def hash_content(model_fingerprint: str, index_version: str, documents: _Rows, chunks: _Rows) -> str:
    """Hash what a reader can find: the same on every machine that built it from the same bytes and rules."""
    state = hashlib.sha256(f"{index_version} {model_fingerprint}\n".encode())
    for rows in (documents, chunks):
        for row in sorted(rows):
            state.update(" ".join(row).encode() + b"\n")
        state.update(b"\n")
    return state.hexdigest()
