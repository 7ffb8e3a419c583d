"""Embeds texts whole: one that is longer than the model's window gets the mean of its windows' vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kb_pipeline.embed.protocol import Embedder
from kb_pipeline.embed.tokenizer import Tokenizer


class MeanPooled:
    """An embedder that sees all of a text.

    Chunks are counted with one tokenizer for every model, so that another model needs no other chunks; the price is
    that some chunk is a few tokens longer than another model's window. Cut there, its end would not be found.
    """

    def __init__(self, embedder: Embedder, tokenizer: Tokenizer) -> None:
        self.name, self.fingerprint = embedder.name, embedder.fingerprint
        self.dimension, self.max_tokens, self.languages = embedder.dimension, embedder.max_tokens, embedder.languages
        self._embedder, self._tokenizer = embedder, tokenizer

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of a text that looks for others; what is beyond the window is not seen."""
        return self._embedder.embed_query(text)

    def embed_passages(self, texts: list[str]) -> NDArray[np.float32]:
        """Vectors of texts to be found, one row each, in order; raises InvalidVector."""
        windows = self._tokenizer.windows(texts)
        vectors = self._embedder.embed_passages([window for parts in windows for window in parts])
        if len(vectors) == len(texts):
            return vectors
        return _means(vectors, windows)


def _means(vectors: NDArray[np.float32], windows: list[list[str]]) -> NDArray[np.float32]:
    """The mean over each text's windows, weighted by their lengths, brought to length 1."""
    starts = np.cumsum([0, *(len(parts) for parts in windows[:-1])])
    weights = np.array([len(window) for parts in windows for window in parts], dtype=np.float32)
    sums: NDArray[np.float32] = np.add.reduceat(vectors * weights[:, None], starts, axis=0)
    means: NDArray[np.float32] = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return means
