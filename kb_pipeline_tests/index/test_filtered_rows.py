"""Filters are applied before ranking, to what the tables say of documents, and cannot be turned into anything else."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from kb_pipeline.errors import UsageError
from kb_pipeline.index import search
from kb_pipeline.index.filtered_rows import ATTRIBUTES
from kb_pipeline.index.filters import read_filter
from kb_pipeline.model import document_id
from kb_pipeline_tests.index.fruit import Fruit, vector_of

FACTS: dict[str, dict[str, Any]] = {
    "/apples": {"published": "2024-05-01", "metadata": json.dumps({"price": "3.50", "tags": ["red", "green"]})},
    "/pears": {"published": "2025-01-15T10:00:00+02:00", "metadata": json.dumps({"price": "12", "stock": "false"})},
    "/birnen": {"published": "yesterday", "canonical_url": "https://x.example/birnen"},
    "/o'hara": {},
}
PAGES: dict[str, dict[str, Any]] = {
    "/apples": {"url": "https://x.example/apples", "content_type": "text/html; charset=utf-8"},
    "/pears": {"url": "https://x.example/docs/pears", "content_type": "APPLICATION/PDF"},
    "/birnen": {"url": "https://x.example/birnen", "content_type": "text/html"},
    "/o'hara": {"url": "https://x.example/o%27hara", "content_type": None},
}


@pytest.fixture(scope="module")
def fruit(tmp_path_factory: pytest.TempPathFactory) -> Fruit:
    kb = Fruit(tmp_path_factory.mktemp("fruit"))
    kb.put({
        "/apples": ("en", "Fruit: apples keep for months."), "/pears": ("en", "Fruit: pears ripen."),
        "/birnen": ("de", "Fruit: Birnen reifen nach."), "/o'hara": ("en", "Fruit: a name with a quote."),
    })  # fmt: skip
    for day, key in enumerate(FACTS, start=1):
        row = FACTS[key] | {
            "document_id": document_id("site", key),
            "fetched_at": datetime(2026, 11, day, 12, tzinfo=UTC),
        }
        kb.documents.upsert(pa.Table.from_pylist([row], schema=subset(kb.documents.schema, row)))
        page = PAGES[key] | {"page_id": document_id("site", key), "first_at": datetime(2025, 1, day, tzinfo=UTC)}
        kb.pages.upsert(pa.Table.from_pylist([page], schema=subset(kb.pages.schema, page)))
    chunks = kb.chunks.read_columns(["chunk_id", "key"])
    for chunk_id, key in chunks.iter_rows():
        row = {"chunk_id": chunk_id, "headings": ["Fruit", key.strip("/").title()]}
        kb.chunks.upsert(pa.Table.from_pylist([row], schema=subset(kb.chunks.schema, row)))
    return kb


def subset(schema: pa.Schema, row: dict[str, Any]) -> pa.Schema:
    return pa.schema([schema.field(name) for name in row])


@pytest.fixture(scope="module")
def find(fruit: Fruit) -> Any:
    manifest = fruit.candidate(publish="{min_recall: 0}").manifest

    def found(chosen: dict[str, Any], mode: str = "hybrid", **options: Any) -> list[str]:
        return sorted(fruit.search(manifest, "fruit", mode=mode, filters=read_filter(chosen), **options))

    return found


def compare(operator: str, key: str, value: object) -> dict[str, Any]:
    return {"type": operator, "key": key, "value": value}


@pytest.mark.parametrize("mode", ["hybrid", "vector", "keyword"])
@pytest.mark.parametrize(
    ("operator", "key", "value", "expected"),
    [
        ("eq", "key", "/pears", ["/pears"]),
        ("ne", "key", "/pears", ["/apples", "/birnen", "/o'hara"]),
        ("eq", "key", "/o'hara", ["/o'hara"]),
        ("in", "key", ["/o'hara", "/apples", "/none"], ["/apples", "/o'hara"]),
        ("nin", "language", ["en"], ["/birnen"]),
        ("in", "language", [], []),
        ("starts_with", "url", "https://x.example/docs/", ["/pears"]),
        ("ends_with", "key", "s", ["/apples", "/pears"]),
        ("contains", "title", "irne", ["/birnen"]),
        ("contains", "title", ".*", []),
        ("eq", "media_type", "text/html", ["/apples", "/birnen"]),
        ("eq", "media_type", "application/pdf", ["/pears"]),
        ("ne", "media_type", "text/html", ["/o'hara", "/pears"]),
        ("exists", "media_type", False, ["/o'hara"]),
        ("eq", "source", "site", ["/apples", "/birnen", "/o'hara", "/pears"]),
        ("eq", "canonical_url", "https://x.example/birnen", ["/birnen"]),
        ("eq", "headings", "Pears", ["/pears"]),
        ("ne", "headings", "Pears", ["/apples", "/birnen", "/o'hara"]),
        ("contains", "headings", "Birn", ["/birnen"]),
        ("gt", "fetched_at", "2026-11-02T12:00:00Z", ["/birnen", "/o'hara"]),
        ("gte", "fetched_at", "2026-11-02T13:00:00+01:00", ["/birnen", "/o'hara", "/pears"]),
        ("eq", "fetched_at", "2026-11-02", ["/pears"]),
        ("gt", "fetched_at", "2026-11-02", ["/birnen", "/o'hara"]),
        ("lte", "fetched_at", "2026-11-02", ["/apples", "/pears"]),
        ("lt", "fetched_at", "2026-11-02", ["/apples"]),
        ("lt", "first_seen_at", 1735776000, ["/apples"]),
        ("gte", "published", "2025-01-15", ["/pears"]),
        ("eq", "published", "2025-01-15T08:00:00Z", ["/pears"]),
        ("exists", "published", True, ["/apples", "/pears"]),
        ("eq", "metadata.price", "3.50", ["/apples"]),
        ("eq", "metadata.price", 3.5, ["/apples"]),
        ("gt", "metadata.price", 4, ["/pears"]),
        ("eq", "metadata.tags", "green", ["/apples"]),
        ("ne", "metadata.tags", "green", ["/birnen", "/o'hara", "/pears"]),
        ("eq", "metadata.stock", False, ["/pears"]),
        ("exists", "metadata.price", True, ["/apples", "/pears"]),
    ],
)  # fmt: skip
def test_each_operator_chooses_what_it_says(
    find: Any, mode: str, operator: str, key: str, value: object, expected: list[str]
) -> None:
    assert find(compare(operator, key, value), mode) == sorted(expected)


def test_filters_are_joined(find: Any) -> None:
    english, pears = compare("eq", "language", "en"), compare("eq", "headings", "Pears")
    assert find({"type": "and", "filters": [english, compare("ne", "key", "/pears")]}) == ["/apples", "/o'hara"]
    assert find({"type": "or", "filters": [pears, compare("eq", "language", "de")]}) == ["/birnen", "/pears"]
    assert find({"type": "not", "filters": [english, pears]}) == ["/birnen"]
    assert find(english, language="de") == []


@pytest.mark.parametrize("value", ["' OR 1=1 --", "en') OR (1=1", "\x00", "en\\", "_%_", "天" * 500])
@pytest.mark.parametrize("key", sorted(key for key, kind in ATTRIBUTES.items() if kind != "time"))
def test_a_value_is_compared_and_never_read_as_an_expression(find: Any, key: str, value: str) -> None:
    assert find(compare("eq", key, value)) == []
    assert find(compare("contains", key, value)) == []


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("colour", "red", "there are: document_id, key"),
        ("vector", "1", "no attribute"),
        ("metadata.colour", "red", "there are: price, stock, tags"),
        ("title", 5, "it is a text"),
        ("fetched_at", "yesterday", "ISO 8601"),
        ("fetched_at", 1e300, "ISO 8601"),
        ("fetched_at", True, "ISO 8601"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_what_can(find: Any, key: str, value: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        find(compare("eq", key, value))


def test_a_narrow_filter_finds_as_many_as_there_are_however_far_down_they_rank(tmp_path: Path) -> None:
    kb = Fruit(tmp_path)
    texts = {f"/p{number}": ("de" if number % 100 == 7 else "en", f"Fruit number {number}") for number in range(600)}
    kb.put(texts)
    manifest = kb.candidate(publish="{min_recall: 0}").manifest
    for mode in ("hybrid", "vector", "keyword"):
        found = kb.search(
            manifest, "fruit number", mode=mode, k=10, filters=read_filter(compare("eq", "language", "de"))
        )
        assert len(found) == 6
        assert {texts[key][0] for key in found} == {"de"}


def test_few_rows_of_an_indexed_table_are_compared_one_by_one(fruit: Fruit, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = fruit.candidate(publish="{min_recall: 0}").manifest
    by_hand = fruit.reader(manifest)
    chosen = read_filter(compare("eq", "language", "en"))
    exact = search.search_version(by_hand, "fruit", vector_of, mode="vector", filters=chosen)
    monkeypatch.setattr(by_hand, "_indexed_columns", frozenset({"vector", "context", "words"}))
    assert search.search_version(by_hand, "fruit", vector_of, mode="vector", filters=chosen) == exact
    assert np.isfinite([hit.score for hit in exact]).all()
