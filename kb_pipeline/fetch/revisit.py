"""When a known key is asked for again: after a failure or a refusal ever later, quiet pages less often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

_HOUR = 3600.0
BACKOFF_S = (0.0, 0.0, _HOUR, 6 * _HOUR, 24 * _HOUR, 72 * _HOUR, 168 * _HOUR)
"""The pause after the first, second, ... failure in a row: the next refresh, the one after it, an hour, ...; a week
after the seventh and every later one."""
REFUSED_SHARE = 8
"""A refresh asks again for one in so many keys that a server refused (404, a redirect, noindex, ...), ..."""
REFUSED_FLOOR = 8
"""... and for so many at least, those that were asked the longest ago: a small site is looked through each time."""
_QUIET_SHARE = 0.5
"""A page that was not seen to change waits for so much of the time it has been watched."""


@dataclass(frozen=True, slots=True)
class RevisitPolicy:
    """How eager a refresh is."""

    retry: bool = False
    """Whether everything that failed or was refused is asked for now, whatever happened before."""
    keys: frozenset[str] = frozenset()
    """Keys that are asked for now, whatever happened before."""
    max_age_s: float | None = None
    """Pages that rarely change are asked for less often, but none is older than this when the next refresh comes; None:
    every refresh asks for every page."""
    next_refresh_s: float = 0.0
    """How long it will probably be until then."""


def plan(
    pages: pl.DataFrame,
    checked: pl.DataFrame,
    recheck: RevisitPolicy,
    now: datetime,
    order: Sequence[str] = (),
    refused: pl.Expr | None = None,
) -> pl.DataFrame:
    """Add `waits` to the rows of `pages` and bring them into the order in which they are best asked for.

    Args:
        pages: rows of the table, with outcome, reason, sha256, failures, tried_at, changes and first_at.
        checked: `key`, `checked_at` and `refusals`; keys that were never checked may be missing.
        recheck: how eager to be.
        now: aware time.
        order: columns that decide where nothing else does, smallest first.
        refused: whether a server refused to give a row's key; none by default.
    """
    import polars as pl

    rows = pages.join(checked, on="key", how="left")
    changes = pl.col("changes").fill_null(0) + 1
    watched_s = (pl.col("checked_at") - pl.col("first_at")).dt.total_milliseconds() / 1000
    since_s = (now - pl.col("checked_at")).dt.total_milliseconds() / 1000
    # The mean time between changes, estimated as if one more change had come by now (Laplace's rule of succession).
    interval_s = _QUIET_SHARE * watched_s / changes
    is_refused = pl.lit(value=False) if refused is None else refused & pl.col("sha256").is_null()
    waits = _waits_after_failure(recheck, now) | _waits_after_refusal(recheck, now, is_refused)
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
            waits=waits.fill_null(value=False) & ~pl.col("key").is_in(list(recheck.keys)),
            rate=rate.fill_null(0.0),
            left_out=left_out,
            since=pl.when(left_out).then("checked_at"),
        )
        .sort("left_out", "since", "rate", *order, descending=[True, False, True, *ascending], maintain_order=True)
        .drop("rate", "left_out", "since", "checked_at", "refusals")
    )


def pause_end(times: int, last: datetime | None) -> datetime | None:
    """Return when the pause after so many failures or refusals in a row is over; None if the next refresh asks."""
    pause_s = BACKOFF_S[min(max(times, 1), len(BACKOFF_S)) - 1]
    return (last + timedelta(seconds=pause_s)).astimezone(UTC) if pause_s and last is not None else None


def describe_wait(row: Mapping[str, Any]) -> str:
    """Return in words when a failed page is requested again; empty if the next refresh requests it."""
    failures = row["failures"] or 0
    until = pause_end(failures, row["tried_at"])
    if until is None:
        return ""
    return f"failed in {failures} refreshes in a row; not asked for before {until:%Y-%m-%d %H:%M} UTC, or by kb retry"


def _waits_after_failure(recheck: RevisitPolicy, now: datetime) -> pl.Expr:
    import polars as pl

    if recheck.retry:
        return pl.lit(value=False)
    since_s = (now - pl.col("tried_at")).dt.total_milliseconds() / 1000
    return (pl.col("outcome") == "failed") & (since_s < _pause_s(pl.col("failures")))


def _waits_after_refusal(recheck: RevisitPolicy, now: datetime, refused: pl.Expr) -> pl.Expr:
    """Return whether a refused key waits: its pause is not over, or others are more overdue."""
    import polars as pl

    if recheck.retry:
        return pl.lit(value=False)
    # Never checked: as far as anybody remembers, it was refused long ago.
    since_s = ((now - pl.col("checked_at")).dt.total_milliseconds() / 1000).fill_null(float("inf"))
    left_s = pl.when(refused).then(_pause_s(pl.col("refusals")) - since_s)
    turn = left_s.rank("ordinal")
    may_ask = (turn <= REFUSED_FLOOR) | ((left_s <= 0) & (turn <= refused.sum() / REFUSED_SHARE))
    return refused & ~may_ask.fill_null(value=False)


def _pause_s(times: pl.Expr) -> pl.Expr:
    """Return the pause after so many failures or refusals in a row."""
    import polars as pl

    steps = times.fill_null(0).clip(0, len(BACKOFF_S))
    pauses = dict(enumerate((0.0, *BACKOFF_S)))
    return steps.replace_strict(pauses, default=0.0, return_dtype=pl.Float64)
