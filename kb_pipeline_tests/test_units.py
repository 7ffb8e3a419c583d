"""Sizes and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kb_pipeline.units import from_now, size, span


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.04, "0.0 s"), (9.96, "10.0 s"), (59, "59 s"), (125, "2 min 5 s"), (600, "10 min"), (4830, "1 h 20 min"),
     (90_000, "1 d 1 h"), (86_400, "1 d")],
)  # fmt: skip
def test_time_spans_have_the_two_largest_units(seconds: float, told: str) -> None:
    assert span(seconds) == told


@pytest.mark.parametrize(("count", "told"), [(0, "0 Bytes"), (71_428, "71.4 kB"), (12_345_678, "12.3 MB")])
def test_sizes_have_decimal_units(count: int, told: str) -> None:
    assert size(count) == told


def test_times_are_told_from_now() -> None:
    now = datetime.now(UTC)
    assert from_now(now - timedelta(minutes=5, seconds=1)) == "5 minutes ago"
    assert from_now(now + timedelta(hours=2, minutes=1)) == "2 hours from now"
