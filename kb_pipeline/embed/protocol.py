"""The interface of embedders, and a function that streams texts through one in bounded batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kb_pipeline.embed.vectors import check_vectors


class Embedder(Protocol):
    """A model that maps texts to vectors of length 1."""

    @property
    def name(self) -> str:
        """The name that it was opened by."""

    @property
    def fingerprint(self) -> str:
        """The identity of its vectors: those of two embedders with the same fingerprint may be mixed in one index."""

    @property
    def dimension(self) -> int:
        """The number of components of a vector."""

    @property
    def max_tokens(self) -> int:
        """The size of the window: text beyond it is ignored."""

    @property
    def languages(self) -> frozenset[str] | None:
        """ISO 639-1 codes of the languages it was trained for; None when unknown."""

    def embed_passages(self, texts: list[str]) -> NDArray[np.float32]:
        """Return the vectors of texts to be found, shape (texts, dimension), in order."""

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return the vector of a query, shape (dimension,)."""


def embed_distinct(
    texts: Iterable[tuple[str, str]], embedder: Embedder, batch: int = 512
) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
    """Yield the hashes of (hash, text) pairs and their checked vectors, at most `batch` at a time.

    A hash that occurs more than once in a batch is embedded once.

    Raises:
        InvalidVector: a vector is not finite or has not the length 1.
    """
    source = iter(texts)
    while distinct := dict(islice(source, batch)):
        vectors = embedder.embed_passages(list(distinct.values()))
        check_vectors(vectors, len(distinct), embedder.dimension)
        yield list(distinct), vectors
