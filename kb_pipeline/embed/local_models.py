"""Embeds with any sentence-transformers model on this machine; the only module that imports that library or torch."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kb_pipeline.embed.models import ModelCard
from kb_pipeline.embed.tokenizer import encodable
from kb_pipeline.embed.vectors import check_vectors
from kb_pipeline.errors import DeviceUnavailable


class LocalEmbedder:
    """A model directory, opened by sentence-transformers on the CPU or on a GPU."""

    def __init__(self, card: ModelCard, fingerprint: str, device: str, on_cpu: str, on_gpu: str) -> None:
        """Open it.

        Args:
            card: what its files say.
            fingerprint: the identity of its vectors.
            device: `cpu`, `cuda`, or `auto` for a GPU where there is one.
            on_cpu: `fp32` or `bf16`, if it runs there.
            on_gpu: `fp32`, `bf16` or `fp16`, if it runs there. Float16 rounds less than bfloat16; what is beyond its
                range gives no number, which is refused with the vector.

        Raises:
            DeviceUnavailable: torch sees no GPU and `device` is `cuda`.
        """
        self.name, self.fingerprint = card.name, fingerprint
        self.dimension, self.max_tokens, self.languages = card.dimension, card.max_tokens, card.languages
        self._card = card
        self._model = _load(card, device, on_cpu, on_gpu)

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
        # Half precision rounds a unit vector's length by up to half a percent, so it is brought to 1 here.
        vectors = np.asarray(found, dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        check_vectors(vectors, len(texts), self.dimension)
        return vectors


def describe_torch() -> str:
    """Which torch is installed, and where it would run a model."""
    import torch

    return f"torch {torch.__version__} runs models on {'cuda' if torch.cuda.is_available() else 'cpu'}"


def _load(card: ModelCard, device: str, on_cpu: str, on_gpu: str) -> Any:  # noqa: ANN401
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when the library is imported
    from sentence_transformers import SentenceTransformer

    chosen = _choose_device(card.name, device)
    model = SentenceTransformer(str(card.directory), device=chosen, local_files_only=True, trust_remote_code=False)
    model.max_seq_length = card.max_tokens
    precision = on_cpu if chosen == "cpu" else on_gpu
    return {"fp32": model.float, "bf16": model.bfloat16, "fp16": model.half}[precision]()


def _choose_device(model: str, device: str) -> str:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceUnavailable(model, device, f"torch {torch.__version__} sees no GPU here")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
