"""What an open installation tells whoever counts its work, such as a service with metrics."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Counts; its methods are called from many threads, and return at once."""

    def note_lookup(self, cache: str, *, is_hit: bool) -> None:
        """Count that something was looked for in a cache: `query_vectors`, `searches` or `sentence_vectors`."""
        ...

    def note_answer(self, mode: str, verdict: str) -> None:
        """Count that a question was answered, or refused."""
        ...


class NobodyCounts:
    """Of an installation that nobody watches."""

    def note_lookup(self, cache: str, *, is_hit: bool) -> None:
        """Do nothing."""

    def note_answer(self, mode: str, verdict: str) -> None:
        """Do nothing."""
