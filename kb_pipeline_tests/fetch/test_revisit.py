"""When a known key is asked for again: after failures and refusals ever later, quiet pages less often."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from kb_pipeline.fetch.revisit import RevisitPolicy, describe_wait, plan

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
DAY = timedelta(days=1)
SCHEMA: dict[str, Any] = {
    "key": pl.String, "outcome": pl.String, "reason": pl.String, "sha256": pl.String, "depth": pl.Int32,
    "failures": pl.Int32, "tried_at": pl.Datetime("us", "UTC"), "changes": pl.Int32,
    "first_at": pl.Datetime("us", "UTC"),
}  # fmt: skip


def _planned(
    recheck: RevisitPolicy, *rows: dict[str, Any], checked: dict[str, datetime] | None = None
) -> dict[str, bool]:
    frame = pl.DataFrame([dict.fromkeys(SCHEMA) | row for row in rows], schema=SCHEMA)
    times = pl.DataFrame(
        {"key": list(checked or {}), "checked_at": list((checked or {}).values()), "refusals": 0},
        schema={"key": pl.String, "checked_at": pl.Datetime("us", "UTC"), "refusals": pl.Int32},
    )
    found = plan(frame, times, recheck, NOW, ("depth",))
    return dict(zip(found["key"], found["waits"], strict=True))


def _failed(failures: int | None, hours_ago: float) -> dict[str, Any]:
    tried_at = NOW - timedelta(hours=hours_ago)
    return {"key": f"f{failures}", "outcome": "failed", "failures": failures, "tried_at": tried_at}


@pytest.mark.parametrize(
    ("failures", "hours_ago", "waits"),
    [
        (None, 0, False), (1, 0, False), (2, 0, False), (3, 0.5, True), (3, 1.5, False), (4, 5, True), (4, 7, False),
        (5, 23, True), (6, 71, True), (7, 167, True), (7, 169, False), (8, 167, True), (9, 169, False),
    ],
)  # fmt: skip
def test_a_page_that_keeps_failing_is_asked_for_ever_less_often(failures: int, hours_ago: float, waits: bool) -> None:
    row = _failed(failures, hours_ago)
    assert _planned(RevisitPolicy(), row) == {row["key"]: waits}
    assert _planned(RevisitPolicy(retry=True), row) == {row["key"]: False}


def test_what_is_told_of_a_page_that_waits() -> None:
    assert describe_wait(_failed(1, 0)) == ""
    assert "not asked for before 2026-11-25 13:00 UTC" in describe_wait(_failed(3, 0))
    assert "failed in 99 refreshes in a row; not asked for before 2026-12-02" in describe_wait(_failed(99, 0))
    assert describe_wait({"failures": None, "tried_at": None}) == ""


def _kept(key: str, days: float, changes: int = 0) -> dict[str, Any]:
    return {
        "key": key,
        "outcome": "fetched",
        "sha256": "x",
        "changes": changes,
        "first_at": NOW - days * DAY,
        "depth": 1,
    }


def test_quiet_pages_wait_for_half_of_the_time_they_have_been_watched() -> None:
    rows = [_kept("new", 0.1), _kept("quiet", 20), _kept("lively", 20, changes=19), _kept("unknown", 20)]
    checked = {"new": NOW - 0.1 * DAY, "quiet": NOW - 5 * DAY, "lively": NOW - 5 * DAY}
    adaptive = RevisitPolicy(max_age_s=30 * 86_400)
    assert _planned(adaptive, *rows, checked=checked) == {
        "lively": False, "new": False, "quiet": True, "unknown": False,
    }  # fmt: skip
    assert not any(_planned(RevisitPolicy(), *rows, checked=checked).values()), "only where the schedule is adaptive"


@pytest.mark.parametrize(
    ("max_age_days", "next_days", "waits"), [(8, 1, True), (6, 1, True), (6, 2, False), (4, 0, False)]
)
def test_no_page_is_older_than_its_most_when_the_next_refresh_comes(
    max_age_days: float, next_days: float, waits: bool
) -> None:
    recheck = RevisitPolicy(max_age_s=max_age_days * 86_400, next_refresh_s=next_days * 86_400)
    assert _planned(recheck, _kept("quiet", 100), checked={"quiet": NOW - 5 * DAY}) == {"quiet": waits}


def test_a_page_that_is_never_seen_to_change_is_asked_for_ever_less_often_up_to_the_limit() -> None:
    """Two hours between refreshes, a month of them."""
    first, checked, asked = NOW - 30 * DAY, NOW - 30 * DAY, []
    for hour in range(0, 30 * 24, 2):
        now = NOW - 30 * DAY + timedelta(hours=hour + 2)
        row = {**_kept("quiet", 0), "first_at": first}
        frame = pl.DataFrame([dict.fromkeys(SCHEMA) | row], schema=SCHEMA)
        times = pl.DataFrame({"key": ["quiet"], "checked_at": [checked], "refusals": [0]})
        recheck = RevisitPolicy(max_age_s=3 * 86_400, next_refresh_s=7200)
        if not plan(frame, times, recheck, now)["waits"][0]:
            asked.append((now - checked).total_seconds() / 3600)
            checked = now
    assert len(asked) < 25
    assert max(asked) <= 3 * 24
    assert asked[:3] == [2, 2, 2]
    assert asked[-1] == 72


def test_what_changes_often_is_asked_for_first_then_what_is_near() -> None:
    rows = [_kept("old", 100), {**_kept("deep", 10), "depth": 3}, _kept("near", 10), _kept("lively", 100, changes=50)]
    assert list(_planned(RevisitPolicy(), *rows)) == ["lively", "near", "deep", "old"]


def test_pages_that_a_quota_left_out_come_first_and_each_to_its_turn() -> None:
    left_out = {"outcome": "failed", "reason": "quota"}
    rows = [{**left_out, "key": key} for key in ("yesterday", "never", "long-ago")]
    checked = {"yesterday": NOW - DAY, "long-ago": NOW - 9 * DAY, "lively": NOW - 20 * DAY}
    planned = _planned(RevisitPolicy(), {**_kept("lively", 30), "changes": 9}, *rows, checked=checked)
    assert list(planned) == ["never", "long-ago", "yesterday", "lively"]
    assert not any(planned.values())


def _asked_again(refusals: dict[str, int], hours_ago: float, **policy: Any) -> set[str]:
    """Return which of the refused keys are asked for again."""
    rows = [dict.fromkeys(SCHEMA) | {"key": key, "outcome": "rejected", "reason": "not_found"} for key in refusals]
    frame = pl.DataFrame(rows, schema=SCHEMA)
    checked = [NOW - timedelta(hours=hours_ago, seconds=number) for number in range(len(refusals))]
    times = pl.DataFrame(
        {"key": list(refusals), "checked_at": checked, "refusals": list(refusals.values())},
        schema={"key": pl.String, "checked_at": pl.Datetime("us", "UTC"), "refusals": pl.Int32},
    )
    planned = plan(frame, times, RevisitPolicy(**policy), NOW, refused=pl.col("reason") == "not_found")
    return set(planned.filter(~pl.col("waits"))["key"])


def test_a_refresh_asks_again_for_one_in_eight_refused_keys_the_most_overdue_first() -> None:
    keys = {f"k{number:03}": 1 for number in range(160)}
    assert _asked_again(keys, 1) == {f"k{number:03}" for number in range(140, 160)}


def test_few_refused_keys_are_asked_again_each_time_the_longest_waiting_first() -> None:
    keys = {f"k{number:02}": 99 for number in range(20)}
    assert _asked_again(keys, 0.1) == {f"k{number:02}" for number in range(12, 20)}


def test_the_pause_after_a_refusal_grows_with_how_often_it_came() -> None:
    keys = {f"k{number:03}": 3 + number // 80 for number in range(160)}  # an hour and six hours
    assert len(_asked_again(keys, 0.5)) == 8
    assert _asked_again(keys, 2) == {f"k{number:03}" for number in range(60, 80)}


def test_a_retry_asks_for_all_that_was_refused_or_for_the_keys_it_names() -> None:
    keys = {f"k{number:03}": 9 for number in range(100)}
    assert _asked_again(keys, 0, retry=True) == set(keys)
    assert _asked_again(keys, 0, keys=frozenset({"k000"})) >= {"k000"}
    assert len(_asked_again(keys, 0, keys=frozenset({"k000"}))) == 9
