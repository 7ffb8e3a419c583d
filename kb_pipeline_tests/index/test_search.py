"""Searching a version by words, by meaning and by both, over real Lance tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kb_pipeline.errors import DamagedStore, UsageError
from kb_pipeline.index.search import Ranked, fuse
from kb_pipeline.publish.candidate import pin_candidate
from kb_pipeline_tests.index.fruit import TEXTS, Fruit


@pytest.fixture
def fruit(tmp_path: Path) -> Fruit:
    kb = Fruit(tmp_path)
    kb.put(TEXTS)
    return kb


def test_words_are_found_in_scripts_without_spaces(fruit: Fruit) -> None:
    assert fruit.search(fruit.candidate().manifest, "天気", mode="keyword") == ["/tenki"]


def test_the_language_filter_holds_in_every_mode(fruit: Fruit) -> None:
    manifest = fruit.candidate().manifest
    for mode in ("hybrid", "vector", "keyword"):
        assert fruit.search(manifest, "Birnen pears", mode=mode, language="de") == ["/birnen"]


@pytest.mark.parametrize(
    "options", [{"k": 0}, {"k": 10**9}, {"language": "de' OR '1'='1"}, {"language": "DE"}], ids=str
)
def test_search_arguments_out_of_range_are_refused(fruit: Fruit, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        fruit.search(fruit.candidate().manifest, "pears", **options)


@pytest.mark.parametrize(
    "query", ["it's", 'a "quoted" word', "(", "AND OR NOT", "*", "title:x", "\\", "天" * 3000, "\x00"]
)
def test_odd_queries_are_searched_not_parsed(fruit: Fruit, query: str) -> None:
    assert len(fruit.search(fruit.candidate().manifest, query)) == 4


def test_an_empty_query_is_refused(fruit: Fruit) -> None:
    with pytest.raises(UsageError, match="empty"):
        fruit.search(fruit.candidate().manifest, "  ")


def test_a_reader_of_the_live_version_sees_nothing_of_the_next(fruit: Fruit) -> None:
    live = pin_candidate(fruit.store, fruit.candidate().manifest, 1, None)
    fruit.remove(["/apples"])
    fruit.put({"/plums": ("en", "Plums are blue.")})
    candidate = fruit.candidate(live, "{max_shrink: 1}")
    assert fruit.search(live, "cellar", mode="keyword") == ["/apples"]
    assert fruit.search(live, "plums", mode="keyword") == []
    assert fruit.search(candidate.manifest, "plums", mode="keyword") == ["/plums"]
    assert fruit.search(candidate.manifest, "cellar", mode="keyword") == []


def test_tags_keep_a_version_through_cleanup_and_without_them_it_goes(fruit: Fruit) -> None:
    from datetime import timedelta

    first = pin_candidate(fruit.store, fruit.candidate().manifest, 1, None)
    fruit.put({"/plums": ("en", "Plums are blue.")})
    second = pin_candidate(fruit.store, fruit.candidate(first).manifest, 2, first)
    index = fruit.store.tables.open(second.tables["index"].name)
    index.maintenance.cleanup(timedelta(0))
    assert fruit.search(first, "plums", mode="keyword") == []
    index.tags.remove("v1")
    index.maintenance.cleanup(timedelta(0))
    with pytest.raises(DamagedStore):
        Fruit(fruit.store.paths.data_dir).search(first, "plums")
    assert fruit.search(second, "plums", mode="keyword") == ["/plums"]


def test_fusing_prefers_what_both_rankings_found() -> None:
    found = fuse(ranking("ab"), ranking("bc"))
    assert [(each.rank, each.chunk_id) for each in found] == [(1, "b"), (2, "a"), (3, "c")]
    assert [each.score for each in found] == [1 / 61 + 1 / 62, 1 / 61, 1 / 62]


def ranking(chunk_ids: str) -> list[Ranked]:
    return [Ranked(rank, 1.0, chunk_id, ord(chunk_id)) for rank, chunk_id in enumerate(chunk_ids, start=1)]
