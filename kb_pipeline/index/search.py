"""Searches one version of a KB: by words, by meaning, or both fused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from kb_pipeline.errors import UsageError
from kb_pipeline.index.exact_vectors import ExactVectors
from kb_pipeline.index.filtered_rows import rows_matching
from kb_pipeline.index.filters import Comparison, Compound
from kb_pipeline.index.languages import count_languages, list_languages
from kb_pipeline.index.reader import VECTOR_INDEX_FROM_ROWS, VersionReader
from kb_pipeline.model import Record
from kb_pipeline.store.table import sql_in, sql_row_ids

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

Mode = Literal["hybrid", "vector", "keyword"]
MAX_HITS = 100
_RRF_K = 60
"""Cormack, Clarke, Buettcher 2009: reciprocal rank fusion, with the constant of the paper."""
_DEPTH = 2 * MAX_HITS
"""Candidates each way before fusing. The same for every `k`, so that the best 10 begin the best 100, and pages of any
size give the same list."""
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
    filters: Comparison | Compound | None = None,
) -> list[Hit]:
    """Return the `k` best chunks of a version: the first hits of `rank_version`, with the same errors."""
    require_count(k)
    return read_hits(version, rank_version(version, query, embed_query, mode, language, filters)[:k])


def rank_version(
    version: VersionReader,
    query: str,
    embed_query: Callable[[str], NDArray[np.float32]],
    mode: Mode = "hybrid",
    language: str | None = None,
    filters: Comparison | Compound | None = None,
) -> list[Ranked]:
    """Return the best chunks of a version, best first: at least 200 where there are so many, 400 at most.

    Args:
        version: the version to search; a publish meanwhile changes nothing.
        query: words or a question, in any language that the model knows.
        embed_query: gives the query's vector; not called for mode `keyword`.
        mode: `vector` ranks by cosine, `keyword` by BM25, `hybrid` fuses both ranks.
        language: only chunks of documents in that language (ISO 639).
        filters: only chunks that satisfy it; it is applied before ranking, so that none of the best is missed.

    Raises:
        UsageError: an empty query, or a language or filter that cannot be.
        DamagedStore: the index of the version cannot be read.
    """
    if not query.strip():
        raise UsageError("the query is empty; give some words or a question")
    among = _rows_among(version, language, filters)
    if among is not None and not among.rows.size:
        return []
    by_meaning = [] if mode == "keyword" else _nearest(version, embed_query(query), among)
    by_words = [] if mode == "vector" else _matching(version, query, among)
    return fuse(by_meaning, by_words) if mode == "hybrid" else [*by_meaning, *by_words]


def require_count(k: int) -> None:
    """Raise UsageError for a number of hits that cannot be asked for."""
    if not 1 <= k <= MAX_HITS:
        raise UsageError(f"k is {k}; allowed are 1 to {MAX_HITS}")


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


def unit_score(score: float, mode: Mode) -> float:
    """Return a hit's score on a scale from 0 to 1, in the same order, for clients that expect one.

    In mode `hybrid`, 1 is first by words and by meaning, 0.5 first by one of them alone: it says how well a chunk ranks
    among the others, not whether it answers. In mode `vector` it is the cosine; BM25, of mode `keyword`, has no such
    scale and gives s / (s + 1).
    """
    if mode == "hybrid":
        return min(1.0, score * (_RRF_K + 1) / 2)
    return max(0.0, min(1.0, score)) if mode == "vector" else score / (score + 1)


def _in_order(found: Iterable[tuple[float, str, int]]) -> list[Ranked]:
    """Rank by score; ties by chunk id, since the order of fetching must not decide."""
    ordered = sorted(found, key=lambda each: (-each[0], each[1]))
    return [Ranked(rank, *each) for rank, each in enumerate(ordered, start=1)]


@dataclass(frozen=True, slots=True)
class _Among:
    """The rows that may be found: their ids, and the filter by which Lance knows them."""

    rows: NDArray[np.int64]
    where: str


def _rows_among(version: VersionReader, language: str | None, filters: Comparison | Compound | None) -> _Among | None:
    """Return the rows that may be found; None for all."""
    if language is not None and not re.fullmatch(r"[a-z]{2,3}", language):
        there_are = list_languages(count_languages(version))
        raise UsageError(f"language {language!r} is no ISO 639 code such as en or de; there are: {there_are}")
    spoken = None
    if language is not None:
        where = sql_in("language", [language])
        spoken = _Among(version.table("index").read_columns([], where, row_ids=True)["_rowid"].to_numpy(), where)
    if filters is None:
        return spoken
    rows = rows_matching(version, filters)
    if spoken is not None:
        rows = rows[np.isin(rows, spoken.rows)]
    return _Among(rows, sql_row_ids(rows.tolist()))


def _nearest(version: VersionReader, vector: NDArray[np.float32], among: _Among | None) -> list[Ranked]:
    table = version.table("index")
    if "vector" not in version.indexed_columns:
        return _in_order(version.exact_vectors.nearest(vector, _DEPTH, None if among is None else among.rows))
    if among is not None and among.rows.size < VECTOR_INDEX_FROM_ROWS:
        # The index looks only into the partitions near the query, where there may be too few of these, or none.
        return _in_order(ExactVectors.read(table, among.rows).nearest(vector, _DEPTH))
    where = None if among is None else among.where
    rows = table.indexes.nearest("vector", vector, _DEPTH, ["chunk_id"], where)
    return _ranked(rows, [1 - distance for distance in rows["_distance"].to_pylist()])


def _matching(version: VersionReader, query: str, among: _Among | None) -> list[Ranked]:
    if not version.indexed_columns >= set(_TEXT_BOOSTS):
        return []  # an empty version has no text index
    where = None if among is None else among.where
    rows = version.table("index").indexes.matching(query, _TEXT_BOOSTS, _DEPTH, ["chunk_id"], where)
    return _ranked(rows, rows["_score"].to_pylist())


def _ranked(rows: pa.Table, scores: Iterable[float]) -> list[Ranked]:
    return _in_order(zip(scores, rows["chunk_id"].to_pylist(), rows["_rowid"].to_pylist(), strict=True))


def read_hits(version: VersionReader, ranked: Sequence[Ranked]) -> list[Hit]:
    """Read what chunks of a ranking say: of a page of it, since reading all takes longer than to find them."""
    parts = version.table("index").take([each.row_id for each in ranked], _COLUMNS)
    rows = (row for part in parts for row in part.to_pylist())
    return [
        Hit(rank=each.rank, score=round(each.score, 6), **{**row, "headings": tuple(row["headings"])})
        for each, row in zip(ranked, rows, strict=True)
    ]
