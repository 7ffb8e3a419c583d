"""Limits how many pages a fetch in this process may request: it takes them from an account, a batch at a time."""

from __future__ import annotations

from kb_pipeline.fetch.source import PageAccount

BATCH = 100
"""Pages taken at once. Those that a fetch does not use return to the account when its journal is counted."""


class PageBudget:
    """What one fetch has of its account."""

    def __init__(self, account: PageAccount) -> None:
        self._account = account
        self._left: int | None = 0
        self._is_used_up = False

    def spend(self) -> bool:
        """Return whether one more page may be asked for, and count it."""
        if self._left == 0 and not self._is_used_up:
            self._left = self._account.take(BATCH)
            self._is_used_up = self._left == 0
        if self._is_used_up:
            return False
        if self._left is not None:
            self._left -= 1
        return True
