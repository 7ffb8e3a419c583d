"""Searches one version of a KB: by words, by meaning, or both fused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kb_pipeline.errors import UsageError
from kb_pipeline.index.languages import count_languages, list_languages
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
    where = _filter(version, query, k, language)
    depth = max(_DEPTH, 2 * k)
    by_meaning = [] if mode == "keyword" else _nearest(version, embed_query(query), depth, where)
    by_words = [] if mode == "vector" else _matching(version, query, depth, where)
    ranked = fuse(by_meaning, by_words) if mode == "hybrid" else [*by_meaning, *by_words]
    return read_hits(version, ranked[:k])


@dataclass(frozen=True, slots=True)
class Ranked:
    """A chunk at its place in a ranking, of which nothing but its names has been read."""

    rank: int
    score: float
    chunk_id: str
    row_id: int


def fuse(*rankings: Sequence[Ranked]) -> list[Ranked]:
    """Fuse rankings by reciprocal rank: every one gives a chunk 1 / (60 + its rank); ties by chunk id."""
    scores: dict[str, float] = {}
    rows: dict[str, int] = {}
    for ranking in rankings:
        for each in ranking:
            scores[each.chunk_id] = scores.get(each.chunk_id, 0.0) + 1 / (_RRF_K + each.rank)
            rows[each.chunk_id] = each.row_id
    return _in_order((score, chunk_id, rows[chunk_id]) for chunk_id, score in scores.items())


def _in_order(found: Iterable[tuple[float, str, int]]) -> list[Ranked]:
    """Rank by score; ties by chunk id, since the order of fetching must not decide."""
    ordered = sorted(found, key=lambda each: (-each[0], each[1]))
    return [Ranked(rank, *each) for rank, each in enumerate(ordered, start=1)]


def _filter(version: VersionReader, query: str, k: int, language: str | None) -> str | None:
    if not query.strip():
        raise UsageError("the query is empty; give some words or a question")
    if not 1 <= k <= MAX_HITS:
        raise UsageError(f"k is {k}; allowed are 1 to {MAX_HITS}")
    if language is None:
        return None
    if not re.fullmatch(r"[a-z]{2,3}", language):
        there_are = list_languages(count_languages(version))
        raise UsageError(f"language {language!r} is no ISO 639 code such as en or de; there are: {there_are}")
    return sql_in("language", [language])


def _nearest(version: VersionReader, vector: NDArray[np.float32], depth: int, where: str | None) -> list[Ranked]:
    table = version.table("index")
    if "vector" in version.indexed_columns:
        rows = table.indexes.nearest("vector", vector, depth, ["chunk_id"], where)
        return _ranked(rows, [1 - distance for distance in rows["_distance"].to_pylist()])
    among = None if where is None else table.read_columns(["chunk_id"], where, row_ids=True)["_rowid"].to_numpy()
    return _in_order(version.exact_vectors.nearest(vector, depth, among))


def _matching(version: VersionReader, query: str, depth: int, where: str | None) -> list[Ranked]:
    if not version.indexed_columns >= set(_TEXT_BOOSTS):
        return []  # an empty version has no text index
    rows = version.table("index").indexes.matching(query, _TEXT_BOOSTS, depth, ["chunk_id"], where)
    return _ranked(rows, rows["_score"].to_pylist())


def _ranked(rows: pa.Table, scores: Iterable[float]) -> list[Ranked]:
    return _in_order(zip(scores, rows["chunk_id"].to_pylist(), rows["_rowid"].to_pylist(), strict=True))


def read_hits(version: VersionReader, ranked: Sequence[Ranked]) -> list[Hit]:
    """Read what the best chunks say; to read it of all candidates would take longer than to find them."""
    parts = version.table("index").take([each.row_id for each in ranked], _COLUMNS)
    rows = (row for part in parts for row in part.to_pylist())
    return [
        Hit(rank=each.rank, score=round(each.score, 6), **{**row, "headings": tuple(row["headings"])})
        for each, row in zip(ranked, rows, strict=True)
    ]
