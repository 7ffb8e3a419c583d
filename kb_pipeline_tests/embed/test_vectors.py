"""Bad vectors are refused before anything of their batch is stored; texts stream in bounded batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kb_pipeline.embed.protocol import Embedder, embed_distinct
from kb_pipeline.embed.vectors import check_vectors
from kb_pipeline.errors import InvalidVector
from kb_pipeline_tests.embed.conftest import TEXTS


def unit_vectors(rows: int = 4, dimension: int = 8) -> NDArray[np.float32]:
    vectors = np.random.default_rng(0).normal(size=(rows, dimension))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def test_unit_vectors_pass() -> None:
    check_vectors(unit_vectors(), 4, 8)
    check_vectors(np.zeros((0, 8), dtype=np.float32), 0, 8)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.4e38])
def test_a_number_that_is_none_is_refused(value: float) -> None:
    vectors = unit_vectors()
    vectors[2, 3] = value
    with pytest.raises(InvalidVector, match="vector 2 of 4"):
        check_vectors(vectors, 4, 8)


@pytest.mark.parametrize("factor", [0.0, 0.99, 1.01])
def test_a_length_other_than_one_is_refused(factor: float) -> None:
    vectors = unit_vectors()
    vectors[1] *= factor
    with pytest.raises(InvalidVector, match="vector 1 of 4"):
        check_vectors(vectors, 4, 8)


@pytest.mark.parametrize(
    "vectors", [unit_vectors()[:3], unit_vectors()[:, :7], unit_vectors()[0], unit_vectors().astype(np.float64)]
)
def test_another_shape_or_type_is_refused(vectors: NDArray[Any]) -> None:
    with pytest.raises(InvalidVector, match="expected"):
        check_vectors(vectors, 4, 8)


def test_texts_stream_through_in_bounded_batches(embedder: Callable[[str, str], Embedder]) -> None:
    taken = 0

    def source() -> Iterator[tuple[str, str]]:
        nonlocal taken
        for index, text in enumerate(TEXTS):
            taken += 1
            yield f"hash {index}", text

    ours = embedder("all-MiniLM-L6-v2", "auto")
    batches = embed_distinct(source(), ours, batch=5)
    hashes, vectors = next(batches)
    assert taken == 5
    assert hashes == [f"hash {index}" for index in range(5)]
    rest = list(batches)
    assert [len(hashes) for hashes, _ in rest] == [5, 5, 1]
    together = np.concatenate([vectors, *(more for _, more in rest)])
    assert (together * ours.embed_passages(TEXTS)).sum(axis=1).min() >= 0.9999


def test_what_a_broken_embedder_gives_is_refused(embedder: Callable[[str, str], Embedder]) -> None:
    class Broken:
        """The real thing, but for one number."""

        def __init__(self, whole: Embedder) -> None:
            self.whole = whole

        def __getattr__(self, name: str) -> Any:
            return getattr(self.whole, name)

        def embed_passages(self, texts: list[str]) -> NDArray[np.float32]:
            vectors = self.whole.embed_passages(texts)
            vectors[0, 0] = np.nan
            return vectors

    broken: Any = Broken(embedder("all-MiniLM-L6-v2", "auto"))
    with pytest.raises(InvalidVector, match="vector 0 of 1"):
        list(embed_distinct([("hash", "text")], broken))
