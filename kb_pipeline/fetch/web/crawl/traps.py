"""Keeps a crawl out of crawler traps: calendars, session ids, combinations of filters, copies of one page.

There are two defences. One judges the form of a URL: too long a path, repeated folders, too many URLs of one folder or
one query pattern (the first two as in Heritrix's TooManyPathSegments and PathologicalPath rules). The other judges the
text of pages: a page without text that is new on its host is repetitive. Its links wait until everything else has been
fetched, and only a limited number of URLs that only repetitive pages link to is fetched at all. A URL that a page with
new text links to is always fetched, and so is one that a sitemap names.
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
_PATTERNS_PER_PATH = 3
_NUMBER = re.compile(r"(?<!\S)[^\w\s]*\d[\d.,:/%+-]*[^\w\s]*(?!\S)")
_URL_PARTS = re.compile(r"[\s/?&=#.;:]+")
_BREAK = "\x00"
_MIX = 0x9E3779B97F4A7C15 - (1 << 64)
"""2**64 divided by the golden ratio, as a signed number: multiplying by it spreads the bits of a hash."""
_MAX_WORDS = 3000
"""How many words of a page are compared."""
_MIN_NEW, _MIN_NEW_SHARE = 8, 0.05
"""A page is novel if at least so many of its shingles, and such a share of them, have not been seen before."""
_SLOTS = 1 << 24
"""Size of the filter, in bytes."""
_MAX_FILL = 0.4
"""The filter is cleared when a larger share is set, since too much would seem to have been seen before."""


class UrlTrapFilter:
    """Judges discovered URLs by their form, and by how many of that form there are already."""

    def __init__(self, limits: CrawlLimits) -> None:
        self._limits = limits
        self._counts: Counter[int] = Counter()

    def refusal(self, url: str) -> str | None:
        """Return the reason not to fetch a newly discovered URL; count the URL and return None if there is none."""
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
        """Return the query patterns that a URL counts for, each with the number of URLs it may have.

        Filters that can be combined make a pattern of each combination: together they may have three times as many URLs
        as one.
        """
        if not query:
            return {}
        names = sorted({pair.partition("=")[0] for pair in query.split("&")})
        most = self._limits.per_query_pattern
        return {f"{shape}?{'&'.join(names)}": most, f"{shape}?": _PATTERNS_PER_PATH * most}


class NoveltyFilter:
    """What has been seen on all hosts, as one filter of hashed word triples, of 16 MiB at most."""

    def __init__(self) -> None:
        self._seen: NDArray[np.uint8] | None = None
        self._set_slots = 0

    def is_novel(self, url: str, text: str, links: tuple[str, ...]) -> bool:
        """Add a page to the filter; return whether its text was new on its host.

        All numbers count as one word, and so do all words of the page's own URL and those of its links: the date in a
        calendar or the address on an error page is not new text.
        """
        import numpy as np

        parts = _URL_PARTS.split(" ".join((url, *links))) + [link.rpartition("/")[2] for link in links]
        shingles = _shingles(text, parts) ^ hash(hostname_of(url))
        slots = np.unique(shingles & (_SLOTS - 1))
        read = self._novelty()
        new = slots[read[slots] == 0]
        read[new] = 1
        self._set_slots += len(new)
        return len(new) >= max(_MIN_NEW, _MIN_NEW_SHARE * len(slots))

    def _novelty(self) -> NDArray[np.uint8]:
        import numpy as np

        if self._seen is None or self._set_slots > _MAX_FILL * _SLOTS:
            self._seen, self._set_slots = np.zeros(_SLOTS, np.uint8), 0
        return self._seen


def _shingles(text: str, parts: list[str]) -> NDArray[np.int64]:
    """Return a hash of every three consecutive words within one line of text, or at either end of it."""
    import numpy as np

    words = _NUMBER.sub("0", text).replace("\n", f" {_BREAK} ").split()[:_MAX_WORDS]
    hashes = np.fromiter(map(hash, [_BREAK, *words, _BREAK]), np.int64)
    hashes[np.isin(hashes, np.fromiter(map(hash, parts), np.int64))] = 0
    first, middle, last = hashes[:-2], hashes[1:-1], hashes[2:]
    triples = ((first * _MIX) ^ middle) * _MIX ^ last
    within: NDArray[np.int64] = triples[middle != hash(_BREAK)]
    return within
