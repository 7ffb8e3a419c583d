"""Opens embedding models for a refresh: the KB file's for chunks and queries, an earlier one for a live version."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from kb_pipeline.chunk.split import embedding_text
from kb_pipeline.embed.long_texts import MeanPooled
from kb_pipeline.embed.model_cache import ModelCache
from kb_pipeline.embed.models import describe_model, model_fingerprint
from kb_pipeline.embed.protocol import Embedder
from kb_pipeline.embed.tokenizer import open_tokenizer
from kb_pipeline.errors import UnknownModel
from kb_pipeline.model import EmbeddingModel
from kb_pipeline.publish.integrity_gates import ChunkText
from kb_pipeline.spec.kb_file import Embedding

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class RunEmbedding:
    """The embedding models of one run, each opened when it is first asked for a vector."""

    def __init__(self, settings: Embedding, models: ModelCache) -> None:
        self._settings, self._models = settings, models

    @cached_property
    def model(self) -> EmbeddingModel:
        """The KB file's model, known without opening it; raises UnknownModel."""
        name = self._settings.model
        return EmbeddingModel(name, model_fingerprint(name), describe_model(name).dimension)

    def open(self) -> Embedder:
        """Open the KB file's model; it embeds texts beyond its window part by part."""
        embedder = self._models.open(self._settings.model, self._settings.precision, self._settings.device)
        return MeanPooled(embedder, open_tokenizer(self._settings.model))

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return the vector of a query."""
        return self._embedder.embed_query(text)

    def embed_query_with(self, model: EmbeddingModel, text: str) -> NDArray[np.float32]:
        """Return the vector of a query to a version made with another model, as its manifest names it.

        Raises:
            UnknownModel: the model is gone, or its files are others now.
        """
        if model_fingerprint(model.name) != model.fingerprint:
            raise UnknownModel(model.name, "its files are not those that the version was made with")
        return self._models.open(model.name, self._settings.precision).embed_query(text)

    def embed_chunks(self, chunks: Sequence[ChunkText]) -> NDArray[np.float32]:
        """Return the vectors of chunks, from their title, headings and text."""
        return self._embedder.embed_passages(
            [embedding_text(chunk.title, chunk.headings, chunk.text) for chunk in chunks]
        )

    @cached_property
    def _embedder(self) -> Embedder:
        return self.open()
