"""Keeps versions and embedding models open for as long as an installation, in bounded numbers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, TypeVar

from cachetools import LRUCache

from kb_pipeline.answers.model_client import CircuitBreaker
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs.versions import manifest_as_of
from kb_pipeline.errors import DamagedStore
from kb_pipeline.model import EmbeddingModel, KbKey
from kb_pipeline.operations.bounded_cache import BoundedCache
from kb_pipeline.operations.observer import NobodyCounts, Observer
from kb_pipeline.settings import Settings
from kb_pipeline.store.manifest import Manifest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kb_pipeline.embed.model_cache import ModelCache
    from kb_pipeline.embed.protocol import Embedder
    from kb_pipeline.index.reader import VersionReader

    _Vectors = BoundedCache[tuple[str, str, str], NDArray[np.float32]]

_MAX_BYTES = 1 << 30
"""How much memory open versions of all KBs may take: 64 of them fit, fewer where their vectors are kept too."""
_VERSION_BYTES = 16 << 20
"""Estimate of what an open version takes beside its vectors: file handles and the metadata of its indexes."""
_QUERY_BYTES = _SENTENCE_BYTES = 16 << 20
"""How much memory the vectors of queries, and those of sentences, may take with their texts, of all tenants: some 8,000
of each by the default model."""
_SEARCH_BYTES = 64 << 20
"""How much memory the results of searches may take, of all tenants."""
_ENTRY_BYTES = 500
"""Estimate of what an entry of a cache takes beside its vector: its text, and what holds the two."""
_MAX_BREAKERS = 1_000
_Result = TypeVar("_Result")


class Readers:
    """Opens versions for several threads. A version that is published is read from the next call on.

    Each call asks the control plane which version is live, and whether its tenant is active. A version that is dropped
    from the cache stays open for threads that still read it.
    """

    def __init__(self, settings: Settings, db: Database) -> None:
        self._settings, self._db = settings, db
        self._lock = threading.Lock()
        self._models: ModelCache | None = None
        self._versions: LRUCache[Hashable, VersionReader] = LRUCache(_MAX_BYTES, getsizeof=_memory_bytes)
        self._breakers: LRUCache[tuple[str, str], CircuitBreaker] = LRUCache(_MAX_BREAKERS)
        self.observer: Observer = NobodyCounts()
        self._queries: _Vectors = BoundedCache(_QUERY_BYTES, _vector_bytes, self._noting("query_vectors"))
        self._sentences: _Vectors = BoundedCache(_SENTENCE_BYTES, _vector_bytes, self._noting("sentence_vectors"))
        self.searches: BoundedCache[Hashable, Any] = BoundedCache(
            _SEARCH_BYTES, lambda result: result.size_bytes, self._noting("searches")
        )
        """What searches found, by tenant, data and request; see operations.search."""

    def open(self, key: KbKey, as_of: str | None = None) -> VersionReader:
        """Return the live version of a KB, or an earlier one, opened.

        Raises:
            UnknownKb, NoLiveVersion, UnknownVersion, TenantInactive, UsageError: see `manifest_as_of`.
        """
        manifest = manifest_as_of(self._db, key, as_of)
        identity = _identity(manifest)
        with self._lock:  # making a reader opens nothing yet
            reader = self._versions.get(identity)
            if reader is None:
                reader = self._versions[identity] = self._new_reader(manifest)
            return reader

    def read(
        self, key: KbKey, as_of: str | None, ask: Callable[[VersionReader], _Result]
    ) -> tuple[VersionReader, _Result]:
        """Return a version, opened, and the result of `ask` on it.

        A reader that is slower than the grace of housekeeping may find its version cleaned away, and one that was
        opened long ago may hold tables that were made anew since. `ask` is then called once more, with the
        version opened anew.

        Raises:
            UnknownKb, NoLiveVersion, UnknownVersion, TenantInactive, UsageError: see `manifest_as_of`.
            DamagedStore: the version cannot be read.
        """
        reader = self.open(key, as_of)
        try:
            return reader, ask(reader)
        except DamagedStore:
            with self._lock:
                self._versions.pop(_identity(reader.manifest), None)
            reader = self.open(key, as_of)
            return reader, ask(reader)

    def embed_query(self, tenant: str, model: EmbeddingModel, text: str) -> NDArray[np.float32]:
        """Return the vector of a tenant's query to a version that the model made; raises UnknownModel.

        Those that were asked for lately are kept, of each tenant apart: how fast an answer comes tells nothing of what
        others ask.
        """
        return self._queries.get_or_make(
            (tenant, model.fingerprint, text), lambda: self._model_cache().open(model.name).embed_query(text)
        )

    def embed_passages(self, model: EmbeddingModel, texts: list[str]) -> NDArray[np.float32]:
        """Return the vectors of texts as that model makes them of chunks; raises UnknownModel."""
        return self._model_cache().open(model.name).embed_passages(texts)

    def embed_sentences(self, tenant: str, model: EmbeddingModel, texts: list[str]) -> NDArray[np.float32]:
        """Return the vectors of a tenant's sentences, of which those that were asked for lately are kept.

        Raises:
            UnknownModel: the model is gone.
        """
        import numpy as np

        keys = [(tenant, model.fingerprint, text) for text in texts]
        vectors = {key: kept for key in keys if (kept := self._sentences.get(key)) is not None}
        if missing := [key for key in dict.fromkeys(keys) if key not in vectors]:
            made = dict(zip(missing, self.embed_passages(model, [text for *_, text in missing]), strict=True))
            vectors |= made
            for key, vector in made.items():
                self._sentences.put(key, vector.copy())  # a row would keep the whole batch
        return np.stack([vectors[key] for key in keys])

    def circuit_breaker(self, tenant: str, url: str) -> CircuitBreaker:
        """Return what a tenant's requests to an endpoint share, of one process."""
        with self._lock:
            return self._breakers.setdefault((tenant, url), CircuitBreaker())

    def open_model(self, model: str) -> Embedder:
        """Return a model, opened, which embeds also what is longer than its window; raises UnknownModel."""
        from kb_pipeline.embed.long_texts import MeanPooled
        from kb_pipeline.embed.tokenizer import open_tokenizer

        return MeanPooled(self._model_cache().open(model), open_tokenizer(model))

    def close(self) -> None:
        """Close models and drop versions."""
        with self._lock:
            self._versions.clear()
            for cache in (self._queries, self._sentences, self.searches):
                cache.clear()
            if self._models is not None:
                self._models.close()

    def _noting(self, cache: str) -> Callable[[bool], None]:
        return lambda is_hit: self.observer.note_lookup(cache, is_hit=is_hit)

    def _model_cache(self) -> ModelCache:
        with self._lock:
            if self._models is None:
                from kb_pipeline.embed.model_cache import ModelCache

                self._models = ModelCache(self._settings.models_dir)
            return self._models

    def _new_reader(self, manifest: Manifest) -> VersionReader:
        from kb_pipeline.index.reader import VersionReader
        from kb_pipeline.store.kb_store import KbStore
        from kb_pipeline.store.paths import KbPaths

        return VersionReader(KbStore(KbPaths(self._settings.data_dir, manifest.kb)), manifest)


def _vector_bytes(vector: NDArray[np.float32]) -> int:
    return int(vector.nbytes) + _ENTRY_BYTES


def _memory_bytes(reader: VersionReader) -> int:
    return _VERSION_BYTES + reader.most_memory_bytes


def _identity(manifest: Manifest) -> Hashable:
    """Return the key under which an open version is kept.

    It holds the run too: a KB that was deleted and created again may give the same numbers to other data.
    """
    return manifest.data_identity, manifest.run_id
