"""Vectors ranked in memory: as Lance ranks them, with ties that no order of storing decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kb_pipeline.index.exact_vectors import ExactVectors
from kb_pipeline.index.reader import VersionReader
from kb_pipeline_tests.index.fruit import TEXTS, Fruit


def unit_vectors(rows: int, seed: int = 0) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(rows, 16)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def exact(vectors: NDArray[np.float32]) -> ExactVectors:
    names = [f"c{number:05}" for number in range(len(vectors))]
    return ExactVectors(names, np.arange(len(vectors), dtype=np.int64) + 100, vectors)


def test_the_nearest_come_first_with_their_similarity() -> None:
    vectors, query = unit_vectors(1000), unit_vectors(1, seed=1)[0]
    found = exact(vectors).nearest(query, 5)
    similarities = vectors @ query
    assert [row - 100 for _, _, row in found] == np.argsort(-similarities)[:5].tolist()
    assert [score for score, _, _ in found] == pytest.approx(np.sort(similarities)[::-1][:5].tolist(), abs=1e-6)


def test_equal_vectors_come_by_chunk_id_wherever_they_are_stored() -> None:
    vectors = np.repeat(unit_vectors(1), 999, axis=0)
    found = exact(vectors).nearest(unit_vectors(1, seed=1)[0], 200)
    assert len({score for score, _, _ in found}) == 1
    assert [chunk for _, chunk, _ in found] == sorted(chunk for _, chunk, _ in found)


def test_only_rows_that_are_allowed_are_ranked() -> None:
    vectors = unit_vectors(50)
    found = exact(vectors).nearest(vectors[7], 10, np.array([103, 120]))
    assert sorted(row for _, _, row in found) == [103, 120]
    assert exact(vectors).nearest(vectors[7], 10, np.array([], dtype=np.int64)) == []


def test_a_version_without_chunks_has_nothing_near() -> None:
    assert exact(np.zeros((0, 16), dtype=np.float32)).nearest(unit_vectors(1)[0], 5) == []


def test_a_version_is_ranked_as_lance_ranks_it(tmp_path: Path) -> None:
    fruit = Fruit(tmp_path)
    fruit.put(TEXTS)
    with VersionReader(fruit.store, fruit.candidate().manifest) as version:
        table = version.table("index")
        query = np.asarray(table.read_columns(["vector"])["vector"].to_numpy()[1], dtype=np.float32)
        rows = table.indexes.nearest("vector", query, 4, ["chunk_id"], None)
        theirs = dict(zip(rows["chunk_id"].to_pylist(), rows["_distance"].to_pylist(), strict=True))
        ours = {chunk: 1 - score for score, chunk, _ in version.exact_vectors.nearest(query, 4)}
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert len(ours) == 4
