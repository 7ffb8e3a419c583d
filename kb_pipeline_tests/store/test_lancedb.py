"""A KB's folder is a LanceDB database: whoever has LanceDB opens, reads and searches it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kb_pipeline_tests.index.fruit import TEXTS, Fruit

pytestmark = pytest.mark.upgrade("lance")


def test_lancedb_reads_and_searches_the_tables_of_a_kb(tmp_path: Path) -> None:
    import lancedb

    fruit = Fruit(tmp_path)
    fruit.put(TEXTS)
    pin = fruit.candidate().manifest.tables["index"]
    ours = fruit.store.tables.open(pin.name, pin.version)
    theirs: Any = lancedb.connect(str(fruit.store.paths.lance)).open_table(pin.name)
    theirs.checkout(pin.version)
    assert theirs.count_rows() == ours.count() > 0
    query = np.asarray(ours.read_columns(["vector"])["vector"].to_numpy()[0], dtype=np.float32)
    nearest = theirs.search(query, vector_column_name="vector").distance_type("cosine").limit(3).to_list()
    found = ours.indexes.nearest("vector", query, 3, ["chunk_id"], None)
    assert [row["chunk_id"] for row in nearest] == found["chunk_id"].to_pylist()
    by_words = theirs.search("cellar", query_type="fts").limit(1).to_list()
    assert [row["key"] for row in by_words] == ["/apples"]
