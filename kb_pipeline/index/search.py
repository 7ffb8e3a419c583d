"""Searches one version of a KB: by words, by meaning, or both fused."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from kb_pipeline.errors import UsageError
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.model import Record
from kb_pipeline.store.table import sql_in

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

Mode = Literal["hybrid", "vector", "keyword"]
MAX_HITS = 100
_RRF_K = 60
"""Cormack, Clarke, Buettcher 2009: reciprocal rank fusion, with the constant of the paper."""
_DEPTH = 50
"""Candidates each way before fusing."""
_TEXT_BOOSTS = {"context": 2.0, "words": 1.0}
"""A word of the title or a heading says more than one in the text: with equal weights a table of contents, which
has every title in its text, outranks the pages that it lists."""
_COLUMNS = ("chunk_id", "document_id", "key", "title", "headings", "language", "text", "start", "end")


@dataclass(frozen=True, slots=True)
class Hit(Record):
    """One chunk that answers, best first."""

    rank: int
    score: float
    """Reciprocal rank fusion, cosine or BM25, after the mode."""
    key: str
    title: str
    headings: tuple[str, ...]
    text: str
    language: str
    document_id: str
    chunk_id: str
    start: int
    end: int


def search_version(
    version: VersionReader,
    query: str,
    embed_query: Callable[[str], NDArray[np.float32]],
    *,
    k: int = 10,
    mode: Mode = "hybrid",
    language: str | None = None,
) -> list[Hit]:
    """Return the `k` best chunks of a version.

    Args:
        version: the version to search; a publish meanwhile changes nothing.
        query: words or a question, in any language that the model knows.
        embed_query: gives the query's vector; not called for mode `keyword`.
        k: 1 to 100.
        mode: `vector` ranks by cosine, `keyword` by BM25, `hybrid` fuses both ranks.
        language: only chunks of documents in that language (ISO 639).

    Raises:
        UsageError: an empty query, or k or language out of range.
        DamagedStore: the index of the version cannot be read.
    """
    where = _filter(query, k, language)
    depth = max(_DEPTH, 2 * k)
    by_meaning = [] if mode == "keyword" else _nearest(version, embed_query(query), depth, where)
    by_words = [] if mode == "vector" else _matching(version, query, depth, where)
    ranked = fuse(by_meaning, by_words) if mode == "hybrid" else [*by_meaning, *by_words]
    return [replace(hit, score=round(hit.score, 6)) for hit in ranked[:k]]


def fuse(*rankings: Sequence[Hit]) -> list[Hit]:
    """Fuse rankings by reciprocal rank: every one gives a chunk 1 / (60 + its rank); ties by chunk id."""
    scores: dict[str, float] = {}
    hits: dict[str, Hit] = {}
    for ranking in rankings:
        for hit in ranking:
            scores[hit.chunk_id] = scores.get(hit.chunk_id, 0.0) + 1 / (_RRF_K + hit.rank)
            hits[hit.chunk_id] = hit
    order = sorted(scores, key=lambda chunk_id: (-scores[chunk_id], chunk_id))
    return [replace(hits[chunk_id], rank=rank, score=scores[chunk_id]) for rank, chunk_id in enumerate(order, start=1)]


def _filter(query: str, k: int, language: str | None) -> str | None:
    if not query.strip():
        raise UsageError("the query is empty; give some words or a question")
    if not 1 <= k <= MAX_HITS:
        raise UsageError(f"k is {k}; allowed are 1 to {MAX_HITS}")
    if language is None:
        return None
    if not re.fullmatch(r"[a-z]{2,3}", language):
        raise UsageError(f"language {language!r} is no ISO 639 code such as en or de")
    return sql_in("language", [language])


def _nearest(version: VersionReader, vector: NDArray[np.float32], depth: int, where: str | None) -> list[Hit]:
    rows = version.table("index").indexes.nearest("vector", vector, depth, _COLUMNS, where)
    return _ranked(rows, [1 - distance for distance in rows["_distance"].to_pylist()])


def _matching(version: VersionReader, query: str, depth: int, where: str | None) -> list[Hit]:
    if not version.indexed_columns >= set(_TEXT_BOOSTS):
        return []  # an empty version has no text index
    rows = version.table("index").indexes.matching(query, _TEXT_BOOSTS, depth, _COLUMNS, where)
    return _ranked(rows, rows["_score"].to_pylist())


def _ranked(rows: pa.Table, scores: Sequence[float]) -> list[Hit]:
    """Order rows by score; ties by chunk id, since the order of fetching must not decide."""
    found = zip(scores, rows.select(_COLUMNS).to_pylist(), strict=True)
    ordered = sorted(found, key=lambda pair: (-pair[0], pair[1]["chunk_id"]))
    return [
        Hit(rank=rank, score=score, **{**row, "headings": tuple(row["headings"])})
        for rank, (score, row) in enumerate(ordered, start=1)
    ]
