"""Writes sizes and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


def size(count: int) -> str:
    """Return a number of bytes with its decimal unit, as `12.3 MB`."""
    from humanize import naturalsize

    return naturalsize(count)


def span(seconds: float) -> str:
    """Return a time span in the two largest units that say something: `3.4 s`, `2 min 5 s`, `1 h 20 min`, `4 d`."""
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < _HOUR_S:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 and whole < 600 else "")
    if whole < _DAY_S:
        return f"{whole // 3600} h" + (f" {whole % 3600 // 60} min" if whole % 3600 >= _MINUTE_S else "")
    return f"{whole // _DAY_S} d" + (f" {whole % _DAY_S // 3600} h" if whole % _DAY_S >= _HOUR_S else "")


def from_now(at: datetime) -> str:
    """Return how long ago an aware time was, or how long it is until then: `3 minutes ago`."""
    from humanize import naturaltime

    return naturaltime(datetime.now(UTC) - at)
