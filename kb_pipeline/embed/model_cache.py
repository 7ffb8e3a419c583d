"""Keeps embedding models open: each is loaded once, and the one that was used longest ago makes room for another."""

from __future__ import annotations

import threading
from pathlib import Path

from cachetools import LRUCache, cached

from kb_pipeline.embed.embedder import open_embedder
from kb_pipeline.embed.models import model_fingerprint
from kb_pipeline.embed.protocol import Embedder

MAX_MODELS = 4
"""A model takes 100 to 500 MB."""


class ModelCache:
    """Opens embedding models for several threads; two that ask for the same one at once wait for one load.

    A model that made room stays open for whoever still uses it.
    """

    def __init__(self, models_dir: Path, max_models: int = MAX_MODELS) -> None:
        self._models_dir = models_dir
        self._models: LRUCache[object, Embedder] = LRUCache(max_models)
        self._open = cached(self._models, condition=threading.Condition())(self._load)

    def open(self, model: str, precision: str = "auto", device: str = "auto") -> Embedder:
        """Return the model, opened; see `open_embedder` for arguments and errors."""
        return self._open(model, precision, device, model_fingerprint(model))

    def close(self) -> None:
        """Let go of every model."""
        self._open.cache_clear()

    def _load(self, model: str, precision: str, device: str, fingerprint: str) -> Embedder:
        del fingerprint  # only part of the key: other files are another model
        return open_embedder(model, precision, self._models_dir, device)
