"""How many documents of a version there are in each language."""

from __future__ import annotations

from pathlib import Path

from kb_pipeline.index.languages import count_languages, list_languages
from kb_pipeline_tests.index.fruit import TEXTS, Fruit


def test_languages_are_counted_and_the_most_frequent_comes_first(tmp_path: Path) -> None:
    fruit = Fruit(tmp_path)
    fruit.put(TEXTS)
    counts = count_languages(fruit.reader(fruit.candidate().manifest))
    assert list_languages(counts) == "en 2, de 1, ja 1"


def test_a_version_without_documents_has_no_language() -> None:
    assert list_languages({}) == "none"
