"""What stands around a hit in its document."""

from __future__ import annotations

from pathlib import Path

import pytest

from kb_pipeline.index.neighbours import neighbours_of
from kb_pipeline.index.search import Hit, search_version
from kb_pipeline_tests.index.fruit import vector_of
from kb_pipeline_tests.index.orchard import Orchard


@pytest.mark.parametrize(
    ("word", "chunks", "before", "after"),
    [
        ("apples", 2, "", "pears\n\nplums"),
        ("pears", 1, "apples", "plums"),
        ("quinces", 5, "apples\n\npears\n\nplums", ""),
    ],
)
def test_neighbours_are_the_text_between_hit_and_their_ends(
    tmp_path: Path, word: str, chunks: int, before: str, after: str
) -> None:
    orchard = Orchard(tmp_path)
    orchard.grow("/fruit", "apples", "pears", "plums", "quinces")
    orchard.grow("/other", "cherries")
    orchard.publish()
    version = orchard.version(1)
    hits: list[Hit] = search_version(version, word, vector_of, mode="keyword")
    (around,) = neighbours_of(version, hits, chunks)
    assert (around.before, around.after) == (before, after)
