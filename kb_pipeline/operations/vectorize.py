"""Chunks and embeds a text that a caller gives, by the code of the stages: what a refresh would make of a document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from kb_pipeline.chunk.rules import ChunkingRules
from kb_pipeline.chunk.split import chunk_document, embedding_text
from kb_pipeline.embed.models import describe_model
from kb_pipeline.embed.tokenizer import open_tokenizer
from kb_pipeline.errors import UsageError
from kb_pipeline.model import Chunk
from kb_pipeline.operations.readers import Readers
from kb_pipeline.operations.replay import recorded_rules
from kb_pipeline.spec.kb_file import Chunking
from kb_pipeline.store.manifest import Manifest

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_CHARS = 200_000
"""Of a text: about 50,000 tokens, 10 seconds of two cores."""


@dataclass(frozen=True, slots=True)
class VectorizedText:
    """The chunks of a text, in order, and a vector of each."""

    model: str
    rules: ChunkingRules
    chunks: tuple[Chunk, ...]
    vectors: NDArray[np.float32]
    """Of length 1; shape (chunks, dimension)."""


def vectorize_as(readers: Readers, manifest: Manifest, markdown: str, title: str) -> VectorizedText:
    """Return the chunks and vectors of a text as a version has them of its documents.

    Raises:
        UsageError: the text is too long, or the version does not say its rules.
        UnknownModel: its model cannot be opened.
    """
    return _vectorize(readers, markdown, title, recorded_rules(manifest).chunk, manifest.model.name)


def vectorize_by(
    readers: Readers, markdown: str, title: str, model: str, chunking: Mapping[str, object]
) -> VectorizedText:
    """Return the chunks and vectors of a text.

    Args:
        readers: that keep the model open.
        markdown: the text.
        title: of its document; a part of what is embedded of every chunk.
        model: of embedding.
        chunking: as in a KB file.

    Raises:
        UsageError: the text is too long, or the chunking cannot be.
        UnknownModel: the model cannot be opened.
    """
    try:
        given = Chunking.model_validate(chunking)
    except ValidationError as error:
        raise UsageError("chunking: " + "; ".join(each["msg"] for each in error.errors())) from None
    rules = ChunkingRules(given.strategy, given.max_tokens, given.overlap_tokens, given.preserve_code)
    return _vectorize(readers, markdown, title, rules, model)


def _vectorize(readers: Readers, markdown: str, title: str, rules: ChunkingRules, model: str) -> VectorizedText:
    if len(markdown) > MAX_CHARS:
        raise UsageError(f"the text has {len(markdown):,} characters; allowed are {MAX_CHARS:,}")
    chunks = tuple(chunk_document(markdown, title, rules, open_tokenizer(rules.tokenizer)))
    if not chunks:
        return VectorizedText(model, rules, (), np.empty((0, describe_model(model).dimension), dtype=np.float32))
    texts = [embedding_text(title, chunk.headings, chunk.text) for chunk in chunks]
    return VectorizedText(model, rules, chunks, readers.open_model(model).embed_passages(texts))
