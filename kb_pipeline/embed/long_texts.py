"""Embeds whole texts: one longer than the model's window gets the mean of its windows' vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kb_pipeline.embed.protocol import Embedder
from kb_pipeline.embed.tokenizer import Tokenizer


class MeanPooled:
    """An embedder whose vectors cover the whole text, by mean pooling over windows.

    Chunks are measured with the same tokenizer for every model, so that changing the model keeps the chunks. A chunk
    may therefore be a few tokens longer than another model's window; truncated there, its end could not be found.
    """

    def __init__(self, embedder: Embedder, tokenizer: Tokenizer) -> None:
        self.name, self.fingerprint = embedder.name, embedder.fingerprint
        self.dimension, self.max_tokens, self.languages = embedder.dimension, embedder.max_tokens, embedder.languages
        self._embedder, self._tokenizer = embedder, tokenizer

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return the vector of a query, truncated to the window, shape (dimension,); raise InvalidVector."""
        return self._embedder.embed_query(text)

    def embed_passages(self, texts: list[str]) -> NDArray[np.float32]:
        """Return the vectors of texts to be found, shape (texts, dimension), in order; raise InvalidVector."""
        windows = self._tokenizer.windows(texts)
        vectors = self._embedder.embed_passages([window for parts in windows for window in parts])
        if len(vectors) == len(texts):
            return vectors
        return _mean_pooled(vectors, windows)


def _mean_pooled(vectors: NDArray[np.float32], windows: list[list[str]]) -> NDArray[np.float32]:
    """Return the mean vector of each text's windows, weighted by their lengths and normalized to length 1."""
    starts = np.cumsum([0, *(len(parts) for parts in windows[:-1])])
    weights = np.array([len(window) for parts in windows for window in parts], dtype=np.float32)
    sums: NDArray[np.float32] = np.add.reduceat(vectors * weights[:, None], starts, axis=0)
    means: NDArray[np.float32] = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return means
