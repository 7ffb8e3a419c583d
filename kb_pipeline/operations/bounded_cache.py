"""Keeps what was made lately, for several threads, within so many bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from cachetools import LRUCache

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class BoundedCache(Generic[_Key, _Value]):
    """What was used longest ago makes room. Values are shared: whoever gets one leaves it as it is."""

    def __init__(
        self, max_bytes: int, size_of: Callable[[_Value], int], note_lookup: Callable[[bool], None] | None = None
    ) -> None:
        """Make an empty cache.

        Args:
            max_bytes: of all values, by `size_of`; a value that is larger is not kept.
            size_of: returns the bytes that a value takes.
            note_lookup: called with whether what was looked for was there.
        """
        self._kept: LRUCache[_Key, _Value] = LRUCache(max_bytes, getsizeof=size_of)
        self._max_bytes, self._size_of, self._note_lookup = max_bytes, size_of, note_lookup
        self._lock = threading.Lock()

    def get(self, key: _Key) -> _Value | None:
        """Return what is kept under a key, or None."""
        with self._lock:
            found = self._kept.get(key)
        if self._note_lookup is not None:
            self._note_lookup(found is not None)
        return found

    def put(self, key: _Key, value: _Value) -> None:
        """Keep a value."""
        if self._size_of(value) <= self._max_bytes:
            with self._lock:
                self._kept[key] = value

    def get_or_make(self, key: _Key, make: Callable[[], _Value]) -> _Value:
        """Return what is kept under a key, or what `make` returns, which is kept from then on.

        Two threads that look for the same at once may both make it: a lock while one makes would have others wait.
        """
        if (found := self.get(key)) is not None:
            return found
        made = make()
        self.put(key, made)
        return made

    def clear(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._kept.clear()
