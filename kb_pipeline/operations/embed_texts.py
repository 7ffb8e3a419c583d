"""Embeds texts that a caller gives, as the stages and searches of a KB would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kb_pipeline.embed.models import describe_model
from kb_pipeline.embed.tokenizer import open_tokenizer
from kb_pipeline.errors import UsageError
from kb_pipeline.operations.readers import Readers
from kb_pipeline.spec.kb_file import Embedding

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEFAULT_MODEL: str = Embedding().model
"""Of KBs whose file names none."""
MAX_TEXTS = 2048
"""As many as OpenAI's API takes at once."""
MAX_TEXT_CHARS = 100_000
MAX_TOKENS = 100_000
"""Of all texts together, in tokens of the model: about 20 seconds of two cores."""


@dataclass(frozen=True, slots=True)
class EmbeddedTexts:
    """The vectors of texts, in order."""

    model: str
    vectors: NDArray[np.float32]
    """Of length 1; shape (texts, dimension)."""
    tokens: tuple[int, ...]
    """How many each text has."""


def embed_texts(
    readers: Readers, model: str, texts: Sequence[str], *, as_queries: bool, dimension: int | None = None
) -> EmbeddedTexts:
    """Return the vectors of texts.

    Args:
        readers: that keep the model open.
        model: its name.
        texts: of any length within the limits; a passage longer than the model's window gets the mean of its parts.
        as_queries: whether they are to be compared with passages, and not found themselves: some models, such as those
            of the E5 family, embed the two differently.
        dimension: what is expected of the vectors.

    Raises:
        UsageError: too many texts, too long ones, or an empty one; or the model's vectors have another dimension.
        UnknownModel: the model cannot be opened.
    """
    if not 1 <= len(texts) <= MAX_TEXTS:
        raise UsageError(f"{len(texts)} texts were given; allowed are 1 to {MAX_TEXTS:,} at once")
    for number, text in enumerate(texts):
        if not text.strip() or len(text) > MAX_TEXT_CHARS:
            said = f"has {len(text):,} characters" if text.strip() else "is empty"
            raise UsageError(f"text {number} {said}; allowed are 1 to {MAX_TEXT_CHARS:,}")
    if dimension not in (None, own := describe_model(model).dimension):
        raise UsageError(f"dimensions is {dimension}; vectors of {model} have {own} and cannot be cut: leave it out")
    tokenizer = open_tokenizer(model)
    tokens = tuple(tokenizer.count(text) for text in texts)
    if sum(tokens) > MAX_TOKENS:
        raise UsageError(f"the texts have {sum(tokens):,} tokens; allowed are {MAX_TOKENS:,}: send fewer at once")
    embedder = readers.open_model(model)
    if as_queries:
        vectors = np.stack([embedder.embed_query(text) for text in texts])
    else:
        vectors = embedder.embed_passages(list(texts))
    return EmbeddedTexts(model, vectors, tokens)
