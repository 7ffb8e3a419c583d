"""When a KB is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from kb_pipeline.cron import newest_tick


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_missed_ticks_count_as_one_the_newest() -> None:
    assert newest_tick("*/5 * * * *", "UTC", at("2026-01-01T10:02"), at("2026-01-01T10:31")) == at("2026-01-01T10:30")


def test_a_tick_is_due_at_its_very_time_and_not_again() -> None:
    tick = at("2026-01-01T10:05")
    assert newest_tick("*/5 * * * *", "UTC", at("2026-01-01T10:04"), tick) == tick
    assert newest_tick("*/5 * * * *", "UTC", tick, at("2026-01-01T10:06")) is None


def test_seconds_within_the_minute_of_a_tick_count() -> None:
    now = at("2026-01-01T10:05") + timedelta(seconds=42)
    assert newest_tick("*/5 * * * *", "UTC", at("2026-01-01T10:04"), now) == at("2026-01-01T10:05")


def test_the_time_zone_is_the_kbs() -> None:
    assert newest_tick(
        "0 9 * * *", "Asia/Tokyo", at("2026-01-01T00:00") - timedelta(hours=1), at("2026-01-01T01:00")
    ) == at("2026-01-01T00:00")


def test_in_the_hour_that_happens_twice_a_job_runs_once() -> None:
    # 25 October 2026, Berlin: 02:30 is both 00:30 and 01:30 UTC.
    since, ticks = at("2026-10-24T12:00"), set()
    for quarter in range(96):
        now = since + timedelta(minutes=15)
        if tick := newest_tick("30 2 * * *", "Europe/Berlin", since, now):
            ticks.add(tick)
        since = now
        assert quarter < 96
    assert len(ticks) == 1


def test_the_hour_that_does_not_happen_is_made_up() -> None:
    # 29 March 2026, Berlin: there is no 02:30.
    tick = newest_tick("30 2 * * *", "Europe/Berlin", at("2026-03-28T12:00"), at("2026-03-29T12:00"))
    assert tick is not None
    assert tick >= at("2026-03-29T00:00")
