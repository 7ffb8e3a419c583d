"""When a page that is known is asked for again: failures after a while and not for ever, quiet pages less often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

MAX_FAILURES = 8
"""Refreshes in a row in which a page failed, after which it is not asked for any more."""
_HOUR = 3600.0
BACKOFF_S = (0.0, 0.0, _HOUR, 6 * _HOUR, 24 * _HOUR, 72 * _HOUR, 168 * _HOUR)
"""The pause after the first, second, ... failure in a row: the next refresh, the one after it, an hour, ..."""
_QUIET_SHARE = 0.5
"""A page that was not seen to change waits for so much of the time it has been watched."""


@dataclass(frozen=True, slots=True)
class RevisitPolicy:
    """How eager a refresh is."""

    retry: bool = False
    """Whether everything that failed is asked for now, whatever happened before."""
    max_age_s: float | None = None
    """Pages that rarely change are asked for less often, but none is older than this when the next refresh comes; None:
    every refresh asks for every page."""
    next_refresh_s: float = 0.0
    """How long it will probably be until then."""


def plan(
    pages: pl.DataFrame, checked: pl.DataFrame, recheck: RevisitPolicy, now: datetime, order: Sequence[str] = ()
) -> pl.DataFrame:
    """Add `waits` to the rows of `pages` and bring them into the order in which they are best asked for.

    Args:
        pages: rows of the table, with outcome, reason, sha256, failures, tried_at, changes and first_at.
        checked: `key` and `checked_at`; keys that were never checked may be missing.
        recheck: how eager to be.
        now: aware time.
        order: columns that decide where nothing else does, smallest first.
    """
    import polars as pl

    rows = pages.join(checked, on="key", how="left")
    changes = pl.col("changes").fill_null(0) + 1
    watched_s = (pl.col("checked_at") - pl.col("first_at")).dt.total_milliseconds() / 1000
    since_s = (now - pl.col("checked_at")).dt.total_milliseconds() / 1000
    # The mean time between changes, estimated as if one more change had come by now (Laplace's rule of succession).
    interval_s = _QUIET_SHARE * watched_s / changes
    waits = _waits_after_failure(recheck, now)
    if recheck.max_age_s is not None:
        is_fresh_at_next = since_s + recheck.next_refresh_s <= recheck.max_age_s
        quiet = pl.col("sha256").is_not_null() & (pl.col("outcome") != "failed")
        waits = waits | (quiet & is_fresh_at_next & (since_s < interval_s))
    age_s = (now - pl.col("first_at")).dt.total_milliseconds() / 1000
    # Where a quota does not reach for all pages, each comes to its turn.
    left_out = (pl.col("reason") == "quota").fill_null(value=False)
    rate = changes / pl.max_horizontal(age_s, pl.lit(_HOUR))
    ascending = [False] * len(order)
    return (
        rows.with_columns(
            waits=waits.fill_null(value=False),
            rate=rate.fill_null(0.0),
            left_out=left_out,
            since=pl.when(left_out).then("checked_at"),
        )
        .sort("left_out", "since", "rate", *order, descending=[True, False, True, *ascending], maintain_order=True)
        .drop("rate", "left_out", "since", "checked_at")
    )


def describe_wait(row: Mapping[str, Any]) -> str:
    """Return in words when a failed page is requested again; empty if the next refresh requests it."""
    failures = row["failures"] or 0
    if failures >= MAX_FAILURES:
        return f"given up after {failures} refreshes in a row; kb retry asks again"
    pause_s = BACKOFF_S[max(failures, 1) - 1]
    if not pause_s or row["tried_at"] is None:
        return ""
    until = (row["tried_at"] + timedelta(seconds=pause_s)).astimezone(UTC)
    return f"failed in {failures} refreshes in a row; not asked for before {until:%Y-%m-%d %H:%M} UTC, or by kb retry"


def _waits_after_failure(recheck: RevisitPolicy, now: datetime) -> pl.Expr:
    import polars as pl

    if recheck.retry:
        return pl.lit(value=False)
    failures = pl.col("failures").fill_null(0)
    pause_s = failures.replace_strict(dict(enumerate(BACKOFF_S, start=1)), default=0.0, return_dtype=pl.Float64)
    since_s = (now - pl.col("tried_at")).dt.total_milliseconds() / 1000
    return (pl.col("outcome") == "failed") & ((failures >= MAX_FAILURES) | (since_s < pause_s))
