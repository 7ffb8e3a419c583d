"""The index table: the vector of every chunk beside its own text."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from kb_pipeline.errors import DamagedStore
from kb_pipeline.model import digest
from kb_pipeline_tests.index.fruit import TEXTS, Fruit, vector_of


@pytest.fixture
def fruit(tmp_path: Path) -> Fruit:
    kb = Fruit(tmp_path)
    kb.put(TEXTS)
    return kb


def test_every_row_of_a_large_index_has_the_vector_of_its_own_text(fruit: Fruit) -> None:
    texts = {f"/many/{n}": ("en", f"Tree {n} bears {n * 7} apples.") for n in range(60)}
    for key in random.Random(3).sample(list(texts), len(texts)):  # the cache is not in the order of the chunks
        fruit.put({key: texts[key]})
    manifest = fruit.candidate().manifest
    index = fruit.store.tables.open(manifest.tables["index"].name)
    for row in index.head(["text", "vector"], 100).to_pylist():
        assert np.allclose(row["vector"], vector_of(row["text"]), atol=1e-6)


def test_a_chunk_without_a_vector_is_an_error_that_names_the_remedy(fruit: Fruit) -> None:
    fruit.vectors.delete("text_hash", [digest(TEXTS["/pears"][1])])
    with pytest.raises(DamagedStore, match="1 chunks have no vector; materialize embeddings"):
        fruit.candidate()
