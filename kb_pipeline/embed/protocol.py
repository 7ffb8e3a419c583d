"""Streams texts through an embedder in bounded batches, whatever the embedder is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kb_pipeline.embed.vectors import check_vectors


class Embedder(Protocol):
    """A model that gives texts vectors of length 1."""

    @property
    def name(self) -> str:
        """The name it was opened by."""

    @property
    def fingerprint(self) -> str:
        """Identity of its vectors: two embedders with the same may be mixed in one index."""

    @property
    def dimension(self) -> int:
        """How many numbers a vector has."""

    @property
    def max_tokens(self) -> int:
        """What lies beyond so many tokens of a text is not seen."""

    @property
    def languages(self) -> frozenset[str] | None:
        """ISO 639-1 codes of what it was made for; None when unknown."""

    def embed_passages(self, texts: list[str]) -> NDArray[np.float32]:
        """Vectors of texts to be found, one row each, in order."""

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of a text that looks for others."""


def embed_distinct(
    texts: Iterable[tuple[str, str]], embedder: Embedder, batch: int = 512
) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
    """Yield hashes and their checked vectors, at most `batch` at a time, for (hash, text) pairs; raises InvalidVector.

    A hash that comes again within its batch is embedded once.
    """
    source = iter(texts)
    while distinct := dict(islice(source, batch)):
        vectors = embedder.embed_passages(list(distinct.values()))
        check_vectors(vectors, len(distinct), embedder.dimension)
        yield list(distinct), vectors
