"""Embeds with a bundled model, by the tokenizers library and OpenVINO, without torch and transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kb_pipeline.embed.batches import padded_batches
from kb_pipeline.embed.convert import converted_model
from kb_pipeline.embed.models import ModelCard
from kb_pipeline.embed.openvino import Encoder
from kb_pipeline.embed.tokenizer import open_tokenizer
from kb_pipeline.embed.vectors import check_vectors

_MAX_TOKEN_CHARS = 100
"""The most characters a token may have; text that is certainly beyond the window is not tokenized."""


class BundledEmbedder:
    """A model whose weights come with this project's dependencies."""

    def __init__(self, card: ModelCard, fingerprint: str, is_bf16: bool, cache_dir: Path) -> None:
        self.name, self.fingerprint = card.name, fingerprint
        self.dimension, self.max_tokens, self.languages = card.dimension, card.max_tokens, card.languages
        self._card = card
        self._tokenizer = open_tokenizer(card.name)
        self._encoder = Encoder(converted_model(card, fingerprint, cache_dir), is_bf16)

    def embed_passages(self, texts: list[str]) -> NDArray[np.float32]:
        """Return the vectors of texts to be found, shape (texts, dimension), in order; raise InvalidVector."""
        return self._embed(self._card.passage_prefix, texts)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return the vector of a query, shape (dimension,); raise InvalidVector."""
        vector: NDArray[np.float32] = self._embed(self._card.query_prefix, [text])[0]
        return vector

    def _embed(self, prefix: str, texts: list[str]) -> NDArray[np.float32]:
        max_chars = self.max_tokens * _MAX_TOKEN_CHARS
        token_ids = self._tokenizer.ids([prefix + text[:max_chars] for text in texts])
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for rows, batch_vectors in self._encoder.run(padded_batches(token_ids)):
            vectors[rows] = batch_vectors
        check_vectors(vectors, len(texts), self.dimension)
        return vectors
