"""Embeds with any sentence-transformers model on this machine; the only module that imports that library."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kb_pipeline.embed.models import ModelCard
from kb_pipeline.embed.tokenizer import encodable
from kb_pipeline.embed.vectors import check_vectors


class LocalEmbedder:
    """A model directory, opened by sentence-transformers on the CPU."""

    def __init__(self, card: ModelCard, fingerprint: str, is_bf16: bool) -> None:
        self.name, self.fingerprint = card.name, fingerprint
        self.dimension, self.max_tokens, self.languages = card.dimension, card.max_tokens, card.languages
        self._card = card
        self._model = _load(card, is_bf16)

    def embed_passages(self, texts: list[str]) -> NDArray[np.float32]:
        """Vectors of texts to be found, one row each, in order; raises InvalidVector."""
        return self._embed(self._card.passage_prefix, texts)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return the vector of a query; raises InvalidVector."""
        vector: NDArray[np.float32] = self._embed(self._card.query_prefix, [text])[0]
        return vector

    def _embed(self, prefix: str, texts: list[str]) -> NDArray[np.float32]:
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        given = [encodable(text) for text in texts]
        found = self._model.encode(given, prompt=prefix, show_progress_bar=False, convert_to_numpy=True)
        # bfloat16 rounds a unit vector's length by up to half a percent, so it is brought to 1 here.
        vectors = np.asarray(found, dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        check_vectors(vectors, len(texts), self.dimension)
        return vectors


def _load(card: ModelCard, is_bf16: bool) -> Any:  # noqa: ANN401
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when the library is imported
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(card.directory), device="cpu", local_files_only=True, trust_remote_code=False)
    model.max_seq_length = card.max_tokens
    return model.bfloat16() if is_bf16 else model
