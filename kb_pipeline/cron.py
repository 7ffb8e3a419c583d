"""Computes when a KB is due by its cron expression."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

_TICKS = 1500
"""More than the minutes of a day, so that all ticks of a day are compared."""


def next_tick(cron: str, timezone: str, after: datetime) -> datetime:
    """Return the first tick after an aware time, in UTC."""
    from cronsim import CronSim

    return next(CronSim(cron, after.astimezone(ZoneInfo(timezone)))).astimezone(UTC)


def shortest_gap(cron: str, timezone: str, after: datetime) -> float:
    """Return the least seconds between two of the next ticks; a cron expression may space them unevenly."""
    from cronsim import CronSim

    ticks = [tick.timestamp() for tick in islice(CronSim(cron, after.astimezone(ZoneInfo(timezone))), _TICKS)]
    return min((later - earlier for earlier, later in pairwise(ticks)), default=float("inf"))


def newest_tick(cron: str, timezone: str, after: datetime, upto: datetime) -> datetime | None:
    """Return the newest tick in (after, upto], or None; a backlog of missed ticks counts as one.

    Args:
        cron: five fields, validated when the KB was applied.
        timezone: IANA name; ticks follow its daylight saving time as in Debian's cron.
        after: aware time.
        upto: aware time.
    """
    from cronsim import CronSim

    # cronsim looks strictly before its start: a tick at `upto` itself counts.
    start = upto.astimezone(ZoneInfo(timezone)) + timedelta(minutes=1)
    for tick in CronSim(cron, start, reverse=True):
        if tick <= upto:
            return tick.astimezone(UTC) if tick > after else None
    return None
