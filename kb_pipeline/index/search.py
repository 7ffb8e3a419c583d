"""Searches one version of a KB: by words, by meaning, or both fused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from kb_pipeline.errors import UsageError
from kb_pipeline.store.lance_table import KbStore, LanceTable, sql_in

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
class Hit:
    """One chunk that answers, best first."""

    rank: int
    score: float
    key: str
    title: str
    headings: list[str]
    text: str
    language: str
    document_id: str
    chunk_id: str
    start: int
    end: int

    def as_json(self) -> dict[str, Any]:
        """The hit as the command line prints it."""
        return asdict(self)


def search_version(
    store: KbStore,
    manifest: Mapping[str, Any],
    query: str,
    embed_query: Callable[[str], Any],
    *,
    k: int = 10,
    mode: Mode = "hybrid",
    language: str | None = None,
) -> list[Hit]:
    """The `k` best chunks of the version that the manifest describes.

    Args:
        store: the KB.
        manifest: of the version to search: it pins the table's version, so a publish meanwhile changes nothing.
        query: words or a question, in any language that the model knows.
        embed_query: gives the query's vector; not called for mode `keyword`.
        k: 1 to 100.
        mode: `vector` ranks by cosine, `keyword` by BM25, `hybrid` fuses both ranks.
        language: only chunks of documents in that language (ISO 639).

    Raises:
        UsageError: an empty query, or k or language out of range.
    """
    where = _filter(query, k, language)
    pinned = manifest["tables"]["index"]
    table = store.tables.open(pinned["name"], pinned["version"])
    depth = max(_DEPTH, 2 * k)
    by_meaning = [] if mode == "keyword" else table.nearest("vector", embed_query(query), depth, _COLUMNS, where)
    by_words = [] if mode == "vector" else _matching(table, query, depth, where)
    # Equal scores come in the order of fetching, which must not decide: the same content gives the same answer.
    by_meaning.sort(key=lambda row: (row["_distance"], row["chunk_id"]))
    by_words.sort(key=lambda row: (-row["_score"], row["chunk_id"]))
    if mode == "hybrid":
        return _hits(fuse(by_meaning, by_words), k)
    scored = [(1 - row["_distance"], row) for row in by_meaning] + [(row["_score"], row) for row in by_words]
    return _hits(scored, k)


def fuse(*rankings: list[dict[str, Any]]) -> list[tuple[float, dict[str, Any]]]:
    """Reciprocal rank fusion: every ranking gives a chunk 1 / (60 + its rank); ties by chunk id."""
    scores: dict[str, float] = {}
    rows: dict[str, dict[str, Any]] = {}
    for ranking in rankings:
        for rank, row in enumerate(ranking, start=1):
            scores[row["chunk_id"]] = scores.get(row["chunk_id"], 0.0) + 1 / (_RRF_K + rank)
            rows[row["chunk_id"]] = row
    order = sorted(scores, key=lambda chunk_id: (-scores[chunk_id], chunk_id))
    return [(scores[chunk_id], rows[chunk_id]) for chunk_id in order]


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


def _matching(table: LanceTable, query: str, depth: int, where: str | None) -> list[dict[str, Any]]:
    if not table.index_names() >= set(_TEXT_BOOSTS):
        return []  # an empty version has no text index
    return table.matching(query, _TEXT_BOOSTS, depth, _COLUMNS, where)


def _hits(scored: list[tuple[float, dict[str, Any]]], k: int) -> list[Hit]:
    return [
        Hit(rank=rank, score=round(float(score), 6), **{name: row[name] for name in _COLUMNS})
        for rank, (score, row) in enumerate(scored[:k], start=1)
    ]
