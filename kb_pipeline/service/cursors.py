"""Cursors of pages: they hold the version that the first page was read of, so that a publish changes no list midway."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass

from kb_pipeline.errors import UsageError
from kb_pipeline.model import JsonObject

_OFFSET_DIGITS = 6


def write_cursor(version: int, after: str) -> str:
    """Return what a client sends back to go on after `after` in that version."""
    return base64.urlsafe_b64encode(f"{version}:{after}".encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[int, str]:
    """Return the version and where to go on; raise UsageError for what is no cursor of ours."""
    try:
        version, separator, after = (
            base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode().partition(":")
        )
        if separator:
            return int(version), after
    except (binascii.Error, UnicodeDecodeError, ValueError):
        pass
    raise UsageError("the cursor is not one that this service gave; leave it out to begin anew")


@dataclass(frozen=True, slots=True)
class SearchPlace:
    """Where in which ranking a page of hits begins."""

    version: int
    offset: int
    data_digest: str
    """Names what is searched, since erasing makes a version's tables anew."""

    def as_cursor(self, search: JsonObject) -> str:
        """Return it as a client sends it back, bound to what decides the ranking."""
        return write_cursor(self.version, f"{self.offset}:{self.data_digest}:{_digest(search)}")


def read_search_place(cursor: str, search: JsonObject) -> SearchPlace:
    """Return where a cursor leads; raise UsageError for none of ours, or one of another search."""
    version, after = read_cursor(cursor)
    offset, _, rest = after.partition(":")
    data_digest, _, of_search = rest.partition(":")
    if not offset.isdecimal() or len(offset) > _OFFSET_DIGITS or of_search != _digest(search):
        raise UsageError("the cursor is of another search; send the same query, mode, language and filters with it")
    return SearchPlace(version, int(offset), data_digest)


def _digest(search: JsonObject) -> str:
    return hashlib.sha256(json.dumps(search, sort_keys=True).encode()).hexdigest()[:16]
