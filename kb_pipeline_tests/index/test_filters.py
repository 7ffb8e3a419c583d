"""The filter language: what is a filter, and what is refused with its place and its reason."""

from __future__ import annotations

from typing import Any

import pytest

from kb_pipeline.errors import UsageError
from kb_pipeline.index.filters import MAX_COMPARISONS, MAX_DEPTH, MAX_VALUES, Comparison, Compound, read_filter

ONE = {"type": "eq", "key": "language", "value": "en"}


def nested(levels: int) -> dict[str, Any]:
    inner: dict[str, Any] = ONE
    for _ in range(levels):
        inner = {"type": "and", "filters": [inner]}
    return inner


def test_a_comparison_and_a_compound_are_read() -> None:
    assert read_filter(ONE) == Comparison(type="eq", key="language", value="en")
    both = read_filter({"type": "or", "filters": [ONE, {"type": "nin", "key": "key", "value": ["a", "b"]}]})
    assert isinstance(both, Compound)
    assert [each.type for each in both.filters] == ["eq", "nin"]
    assert read_filter(both) == both


def test_what_is_as_large_as_allowed_is_read() -> None:
    read_filter(nested(MAX_DEPTH))
    read_filter({"type": "or", "filters": [ONE] * MAX_COMPARISONS})
    read_filter({"type": "in", "key": "key", "value": ["a"] * MAX_VALUES})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (nested(MAX_DEPTH + 1), "levels"),
        (nested(100_000), "levels"),
        ({"type": "or", "filters": [ONE] * (MAX_COMPARISONS + 1)}, "comparisons"),
        ({"type": "and", "filters": [{"type": "or", "filters": [ONE] * 60}] * 2}, "comparisons"),
        ({"type": "in", "key": "key", "value": ["a"] * (MAX_VALUES + 1)}, "value"),
        ({"type": "and", "filters": []}, "filters"),
        ({"type": "like", "key": "key", "value": "a"}, "type"),
        ({"type": "eq", "key": "key"}, "value"),
        ({"type": "eq", "key": "key", "value": ["a"]}, "one value"),
        ({"type": "in", "key": "key", "value": "a"}, "list of values"),
        ({"type": "eq", "key": "key", "value": None}, "value"),
        ({"type": "eq", "key": "key", "value": {"$ne": 1}}, "value"),
        ({"type": "gt", "key": "key", "value": float("nan")}, "finite"),
        ({"type": "exists", "key": "key", "value": "yes"}, "true or false"),
        ({**ONE, "where": "1=1"}, "where"),
        ({"type": "eq", "key": "key", "value": "a" * 5000}, "value"),
        ([ONE], "filter"),
        ("language = 'en'", "filter"),
        (None, "filter"),
    ],
)
def test_what_is_no_filter_is_refused_with_its_reason(given: object, said: str) -> None:
    with pytest.raises(UsageError, match="the filter is not valid") as refused:
        read_filter(given)
    assert said in str(refused.value)
