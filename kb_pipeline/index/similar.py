"""Finds what is like a chunk or a document of a version, by the vectors that are stored: nothing is embedded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kb_pipeline.errors import UsageError
from kb_pipeline.index.documents import HitProvenance, provenance_of
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.index.search import MAX_HITS, Hit, Ranked, read_hits
from kb_pipeline.store.table import sql_in

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_CHUNKS_A_DOCUMENT = 5
"""Candidates for each document wanted: the nearest chunks are often several of one document."""


@dataclass(frozen=True, slots=True)
class SimilarChunks:
    """What is like something in one version, nearest first, scored by cosine."""

    version: int
    hits: list[Hit]
    provenance: list[HitProvenance]
    """Where each hit came from, in order."""


def find_similar(version: VersionReader, name: str, k: int = 5) -> SimilarChunks:
    """Return the best chunk of each of the `k` documents that are nearest to a chunk or a document.

    Args:
        version: the version to search.
        name: the id of a chunk; or that of a document, which stands for the mean of its chunks.
        k: 1 to 100.

    Raises:
        UsageError: neither a chunk of the index nor a document with chunks has the id, or k is out of range.
        DamagedStore: the index of the version cannot be read.
    """
    if not 1 <= k <= MAX_HITS:
        raise UsageError(f"k is {k}; allowed are 1 to {MAX_HITS}")
    columns = ["document_id", "vector"]
    rows = version.table("index").read_columns(columns, sql_in("chunk_id", [name]))
    if rows.is_empty():
        rows = version.table("index").read_columns(columns, sql_in("document_id", [name]))
    if rows.is_empty():
        raise UsageError(
            f"{version.key}: version {version.number} has no chunk, and no document with chunks, of the id {name!r}; "
            "take one that a search of this version gave"
        )
    mean = rows["vector"].to_numpy().astype("float32").mean(axis=0)
    length = float((mean @ mean) ** 0.5)
    found = _nearest(version, mean / length if length else mean, k * _CHUNKS_A_DOCUMENT, rows["document_id"][0])
    best = {hit.document_id: hit for hit in reversed(read_hits(version, found))}
    nearest = sorted(best.values(), key=lambda hit: hit.rank)[:k]
    hits = [replace(hit, rank=rank) for rank, hit in enumerate(nearest, start=1)]
    return SimilarChunks(version.number, hits, provenance_of(version, hits))


def _nearest(version: VersionReader, vector: NDArray[np.float32], depth: int, but_of: str) -> list[Ranked]:
    """Return the nearest chunks that are not of one document."""
    table = version.table("index")
    others = f"NOT ({sql_in('document_id', [but_of])})"
    if "vector" in version.indexed_columns:
        rows = table.indexes.nearest("vector", vector, depth, ["chunk_id"], others)
        found = list(
            zip(rows["_distance"].to_pylist(), rows["chunk_id"].to_pylist(), rows["_rowid"].to_pylist(), strict=True)
        )
        near = sorted((1 - distance, chunk_id, row_id) for distance, chunk_id, row_id in found)[::-1]
    else:
        among = table.read_columns(["chunk_id"], others, row_ids=True)["_rowid"].to_numpy()
        near = version.exact_vectors.nearest(vector, depth, among)
    return [Ranked(rank, *each) for rank, each in enumerate(near, start=1)]
