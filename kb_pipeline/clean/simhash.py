"""Charikar's simhash over word triples: 64 bits, of which two nearly equal texts share most.

M. Charikar, Similarity estimation techniques from rounding algorithms, STOC 2002; for the web: G. Manku and others,
Detecting near-duplicates for web crawling, WWW 2007, who call texts near-duplicates if at most three bits differ.
"""

from __future__ import annotations

import hashlib
import re

import numpy as np

MAX_HAMMING_DISTANCE = 8
"""Texts that differ in at most so many bits are similar enough if one also declares the other as canonical."""
_WORD = re.compile(r"\w+")
_SHINGLE = 3
_MAX_WORDS = 20_000


def simhash(text: str) -> int:
    """Return the simhash of a text as a signed 64-bit number; 0 for a text without words."""
    words = [match[0].lower() for match, _ in zip(_WORD.finditer(text), range(_MAX_WORDS), strict=False)]
    shingles = (
        {" ".join(words[start : start + _SHINGLE]) for start in range(max(1, len(words) - _SHINGLE + 1))}
        if words
        else ()
    )
    if not shingles:
        return 0
    hashes = b"".join(hashlib.blake2b(shingle.encode(), digest_size=8).digest() for shingle in shingles)
    bits = np.unpackbits(np.frombuffer(hashes, np.uint8)).reshape(-1, 64)
    majority = bits.sum(axis=0, dtype=np.int64) * 2 > len(bits)
    return int(np.packbits(majority).view(">i8")[0])
