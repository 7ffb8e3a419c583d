"""What holds for keys of every kind: how long they are valid, how they are labelled, how often their use is noted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from kb_pipeline.errors import KeyRefused, UsageError

_LONGEST_LABEL = 100
_USE_NOTED_EVERY = timedelta(hours=1)


def check_label(label: str) -> None:
    """Raise UsageError for what is no label of a key."""
    if len(label) > _LONGEST_LABEL or not label.isprintable():
        raise UsageError(f"a key's label is one printable line of at most {_LONGEST_LABEL} characters")


def check_in_force(key_id: str, revoked_at: datetime | None, expires_at: datetime | None, what: str) -> None:
    """Raise KeyRefused for a key that was revoked or has expired."""
    if revoked_at is not None:
        raise KeyRefused(f"{key_id} was revoked at {revoked_at:%Y-%m-%d %H:%M} UTC", what)
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise KeyRefused(f"{key_id} expired at {expires_at:%Y-%m-%d %H:%M} UTC", what)


def is_use_to_note(last_used_at: datetime | None) -> bool:
    """Return whether to write that a key is used: to the hour, since a write costs more than most requests."""
    return last_used_at is None or datetime.now(UTC) - last_used_at >= _USE_NOTED_EVERY
