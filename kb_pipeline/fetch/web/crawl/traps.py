"""Keeps a crawl out of sites without an end: calendars, session ids, combinations of filters, copies of one page.

Two kinds of defence. The shape of a URL: too long a path, the same folders again and again, too many URLs of one folder
or one pattern of query (the first two as Heritrix's TooManyPathSegments and PathologicalPath rules have them). And what
pages say: whoever says nothing that has not been read on this host leads nowhere new. Its links wait until everything
else was visited, and only a limited number of what is known through such pages alone is visited at all. A page that a
page with something to say links to is always visited, and so is what a sitemap names.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from kb_pipeline.fetch.web.rules import CrawlLimits
from kb_pipeline.urls import hostname_of, netloc_of, path_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DIGITS = re.compile(r"\d+")
_REPEATED = re.compile(r"((?:/[^/]+)+?)\1{2,}(?=/|$)")
"""The same folders three times in a row."""
_PATTERNS_A_PATH = 3
_NUMBER = re.compile(r"(?<!\S)[^\w\s]*\d[\d.,:/%+-]*[^\w\s]*(?!\S)")
_URL_PARTS = re.compile(r"[\s/?&=#.;:]+")
_BREAK = "\x00"
_MIX = 0x9E3779B97F4A7C15 - (1 << 64)
"""2**64 divided by the golden ratio, as a signed number: multiplying by it spreads the bits of a hash."""
_WORDS_READ = 3000
"""Of a page, for judging whether it says anything new."""
_LEAST_NEW, _LEAST_SHARE = 8, 0.05
"""A page says something new if so many of its shingles, and such a share of them, have not been read before."""
_SLOTS = 1 << 24
"""Bytes of the memory of what was read."""
_MOST_FILLED = 0.4
"""Beyond it the memory begins anew: too much would seem to have been read before."""


class Shapes:
    """Judges URLs that links lead to by their form, and by how many of that form there are already."""

    def __init__(self, limits: CrawlLimits) -> None:
        self._limits = limits
        self._counts: Counter[int] = Counter()

    def refusal(self, url: str) -> str | None:
        """The reason not to visit a URL that is met for the first time, or None; counts it if there is none."""
        path, _, query = path_of(url).partition("?")
        if path.count("/") > self._limits.path_segments:
            return "path_too_long"
        if _REPEATED.search(path):
            return "path_repetition"
        shape = netloc_of(url) + _DIGITS.sub("0", path)
        folder, patterns = shape[: shape.rfind("/") + 1], self._patterns(shape, query)
        if self._counts[hash(folder)] >= self._limits.per_directory:
            return "directory_limit"
        if any(self._counts[hash(pattern)] >= most for pattern, most in patterns.items()):
            return "query_limit"
        self._counts.update(map(hash, (folder, *patterns)))
        return None

    def _patterns(self, shape: str, query: str) -> dict[str, int]:
        """The patterns that a URL with a query counts for, and how many each may have.

        Filters that can be combined make a pattern of each combination: together they have thrice what one may have.
        """
        if not query:
            return {}
        names = sorted({pair.partition("=")[0] for pair in query.split("&")})
        most = self._limits.per_query_pattern
        return {f"{shape}?{'&'.join(names)}": most, f"{shape}?": _PATTERNS_A_PATH * most}


class Memory:
    """What has been read of each host, as one filter of hashed word triples; never more than 16 MiB."""

    def __init__(self) -> None:
        self._read: NDArray[np.uint8] | None = None
        self._filled = 0

    def is_news(self, url: str, text: str, links: tuple[str, ...]) -> bool:
        """Whether a page says something that was not read before; it has been read from now on.

        Numbers count as one word, and so does what stands in the page's own address or in those of its links: what a
        calendar or an error page says of itself is nothing new.
        """
        import numpy as np

        parts = _URL_PARTS.split(" ".join((url, *links))) + [link.rpartition("/")[2] for link in links]
        shingles = _shingles(text, parts) ^ hash(hostname_of(url))
        slots = np.unique(shingles & (_SLOTS - 1))
        read = self._memory()
        new = slots[read[slots] == 0]
        read[new] = 1
        self._filled += len(new)
        return len(new) >= max(_LEAST_NEW, _LEAST_SHARE * len(slots))

    def _memory(self) -> NDArray[np.uint8]:
        import numpy as np

        if self._read is None or self._filled > _MOST_FILLED * _SLOTS:
            self._read, self._filled = np.zeros(_SLOTS, np.uint8), 0
        return self._read


def _shingles(text: str, parts: list[str]) -> NDArray[np.int64]:
    """A hash of every three words in a row that lie within one piece of text, or at one of its ends."""
    import numpy as np

    words = _NUMBER.sub("0", text).replace("\n", f" {_BREAK} ").split()[:_WORDS_READ]
    hashes = np.fromiter(map(hash, [_BREAK, *words, _BREAK]), np.int64)
    hashes[np.isin(hashes, np.fromiter(map(hash, parts), np.int64))] = 0
    first, middle, last = hashes[:-2], hashes[1:-1], hashes[2:]
    triples = ((first * _MIX) ^ middle) * _MIX ^ last
    within: NDArray[np.int64] = triples[middle != hash(_BREAK)]
    return within
