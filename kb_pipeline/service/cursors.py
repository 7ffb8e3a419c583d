"""Cursors of pages: they hold the version that the first page was read of, so that a publish changes no list midway."""

from __future__ import annotations

import base64
import binascii

from kb_pipeline.errors import UsageError


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
