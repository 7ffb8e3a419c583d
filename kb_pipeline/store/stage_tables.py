"""The tables of a KB: what each is called, what identifies its rows, and which document a row is of."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

PAGES = "pages"
"""Fetch state of every key."""
DOCUMENTS = "documents"
"""What cleaning made of every page with bytes."""
CHUNKS = "chunks"
"""The spans of every document."""
INDEX = "index"
"""What is searched: one row a chunk, with its vector."""
INDEX_PREFIX = f"{INDEX}_"
"""Before the names of index tables, one a model; their full-text and vector indexes outlive the rewriting of files."""
STANDS_ASIDE = ("duplicate_of", "left_out")
"""Columns of `documents` that say why a document is none of its own."""
VECTORS_PREFIX = "model_"
"""Before the names of the tables of a tenant's embedding cache, one a model."""


@dataclass(frozen=True, slots=True)
class StageTable:
    """What every room must know of a table; its schema stands with the stage that writes it."""

    role: str
    """What its name begins with, up to the first underscore."""
    key: str
    """The column that identifies a row."""
    document: str
    """The column that says which document a row is of; the key itself for a table of texts."""


STAGE_TABLES = {
    table.role: table
    for table in (
        StageTable(PAGES, "page_id", "page_id"),
        StageTable(DOCUMENTS, "document_id", "document_id"),
        StageTable(CHUNKS, "chunk_id", "document_id"),
        StageTable(INDEX, "chunk_id", "document_id"),
        StageTable("model", "text_hash", "text_hash"),
    )
}
"""Every table, by its role."""
ROLES = (PAGES, DOCUMENTS, CHUNKS, INDEX)
"""The tables of which a version consists, in the order in which they are made."""


def role_of(table_name: str) -> str:
    """Return the role of a table: `index` for `index_0123456789abcdef`."""
    return table_name.partition("_")[0]


def kept_documents(columns: Collection[str]) -> str:
    """Return the filter of the rows of `documents` that readers see: no copies, no views of others.

    Args:
        columns: of the table; one of an earlier release has no `left_out`.
    """
    return " AND ".join(["outcome = 'document'", *(f"{name} IS NULL" for name in STANDS_ASIDE if name in columns)])
