"""Counts the pages that a source keeps against max_pages: stored ones hold their place until they end."""

from __future__ import annotations

from collections.abc import Callable

from kb_pipeline.fetch.web.crawl.journal import Row
from kb_pipeline.fetch.web.crawl.outcomes import ends_document


class PageRoom:
    """The places for pages: those that are taken, and those that a request under way may take.

    Args:
        most: max_pages.
        stored: pages with stored bytes. There may be more than `most`, if that was lowered.
        held: returns how many of these are out of reach now and hold no place, unless a link to them turns up.
    """

    def __init__(self, most: int, stored: int, held: Callable[[], int]) -> None:
        self._most, self._taken, self._entered, self._held = most, stored, 0, held

    @property
    def is_free(self) -> bool:
        """Whether one more page may be requested that has no place yet."""
        return self.free > 0

    @property
    def free(self) -> int:
        """How many more there may be; less than none if max_pages was lowered."""
        return self._most - self._taken - self._entered + self._held()

    def enter(self) -> None:
        """Take a place for a request whose page has none yet."""
        self._entered += 1

    def leave(self) -> None:
        """Give it back: the request has ended, and its row is counted."""
        self._entered -= 1

    def count(self, row: Row, *, was_stored: bool) -> None:
        """Count the outcome of a URL."""
        if was_stored:
            self._taken -= ends_document(row)
        else:
            self._taken += row.outcome in ("fetched", "unchanged")
