"""Splits Markdown into its blocks, and cuts blocks from its beginning and its end."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise

import numpy as np

_FENCE = re.compile(r"[ >]*(`{3,}|~{3,})")
_MOST = 12
"""Blocks at each end of a document by which it is compared with others."""
_MOST_CHARS = 4_000
"""A longer block is content, however often it is repeated."""


@dataclass(frozen=True, slots=True)
class Edges:
    """Hashes of the blocks that a document begins and ends with."""

    opening: tuple[int, ...]
    """From the first block on."""
    closing: tuple[int, ...]
    """From the last block backwards; of a short document the same blocks as `opening`."""
    count: int
    """Of all blocks of the document."""

    def to_bytes(self) -> bytes:
        """Return what `from_bytes` reads."""
        return np.array([len(self.opening), self.count, *self.opening, *self.closing], dtype="<u8").tobytes()

    @classmethod
    def from_bytes(cls, stored: bytes) -> Edges:
        """Read what `to_bytes` wrote."""
        opening, count, *hashes = np.frombuffer(stored, "<u8").tolist()
        return cls(tuple(hashes[:opening]), tuple(hashes[opening:]), count)


def edges_of(markdown: str) -> Edges:
    """Return the edges of a document; headings, tables, code and very long blocks are content however often: hash 0."""
    blocks = split_blocks(markdown)
    return Edges(tuple(map(_hash, blocks[:_MOST])), tuple(map(_hash, blocks[: -_MOST - 1 : -1])), len(blocks))


def split_blocks(markdown: str) -> list[str]:
    """Return the blocks of Markdown with the blank lines after each: joined they are the whole again."""
    starts, fence, is_blank, offset = [0], "", False, 0
    for line in markdown.splitlines(keepends=True):
        mark = _FENCE.match(line)
        if fence:
            fence = "" if mark and line.strip(" >\n").startswith(fence) else fence
        else:
            if is_blank and line.strip() and offset:
                starts.append(offset)
            fence = mark[1] if mark else ""
        is_blank = not line.strip() and not fence
        offset += len(line)
    return [markdown[start:end] for start, end in pairwise([*starts, len(markdown)])] if markdown else []


def cut(markdown: str, opening: int, closing: int) -> tuple[str, str, str]:
    """Return what so many blocks at both ends are, and what remains between them: opening, rest, closing."""
    blocks = split_blocks(markdown)
    end = len(blocks) - closing
    return "".join(blocks[:opening]), "".join(blocks[opening:end]), "".join(blocks[end:])


def _hash(block: str) -> int:
    text = " ".join(block.split())
    if text.startswith(("#", "|", "```", "~~~")) or len(block) > _MOST_CHARS:
        return 0
    return int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "little") or 1
