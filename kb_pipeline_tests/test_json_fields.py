"""Fields of a JSON object, read one by one: what is given back, and how what is wrong is named."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from kb_pipeline.json_fields import JsonFields

FIELDS = JsonFields(
    {
        "name": "pears",
        "count": 3,
        "ripe": True,
        "nothing": None,
        "at": "2026-11-21T08:00:00+00:00",
        "inner": {"a": "b", "n": 1},
        "shares": {"half": 0.5, "whole": 1},
        "texts": ["a", "b"],
        "numbers": [1, 2],
        "objects": [{"n": 1}, {"n": 2}],
    }
)


def test_every_kind_of_field_is_read() -> None:
    assert (FIELDS.text("name"), FIELDS.number("count"), FIELDS.flag("ripe")) == ("pears", 3, True)
    assert FIELDS.moment("at") == datetime(2026, 11, 21, 8, tzinfo=UTC)
    assert (FIELDS.inner("inner").text("a"), FIELDS.inner("inner").names()) == ("b", ["a", "n"])
    assert FIELDS.inner("inner").scalars() == {"a": "b", "n": 1}
    assert FIELDS.figures("shares", {}) == {"half": 0.5, "whole": 1}
    assert (FIELDS.text_list("texts"), FIELDS.number_list("numbers")) == (("a", "b"), (1, 2))
    assert [each.number("n") for each in FIELDS.inner_list("objects")] == [1, 2]


def test_what_is_missing_or_null_is_the_default_where_there_is_one() -> None:
    assert (FIELDS.has("name"), FIELDS.has("nothing"), FIELDS.has("nowhere")) == (True, False, False)
    assert (FIELDS.number("nothing", default=7), FIELDS.texts("nowhere", default={})) == (7, {})
    assert (FIELDS.text_list("nowhere", default=()), FIELDS.inner_list("nowhere", default=())) == ((), [])


@pytest.mark.parametrize(
    ("read", "problem"),
    [
        (lambda: FIELDS.text("nowhere"), "nowhere is missing"),
        (lambda: FIELDS.text("nothing"), "nothing is null, not a string"),
        (lambda: FIELDS.number("ripe"), "ripe is true or false, not an integer"),
        (lambda: FIELDS.flag("count"), "count is an integer, not true or false"),
        (lambda: FIELDS.moment("name"), "name is 'pears', not a time"),
        (lambda: FIELDS.inner("texts"), "texts is a list, not an object"),
        (lambda: FIELDS.inner("inner").number("a"), "inner.a is a string, not an integer"),
        (lambda: FIELDS.texts("inner"), "inner.n is an integer, not a string"),
        (lambda: FIELDS.text_list("numbers"), "numbers is not a list of strings"),
        (lambda: FIELDS.number_list("texts"), "texts is not a list of integers"),
        (lambda: FIELDS.inner_list("objects")[1].text("n"), "objects[1].n is an integer, not a string"),
        (lambda: FIELDS.inner_list("name"), "name is a string, not a list"),
        (lambda: FIELDS.require("count", 4), "count is 3, not 4"),
        (lambda: JsonFields(3), "it is an integer, not an object"),
    ],
    ids=lambda value: value.replace(" ", "_") if isinstance(value, str) else "",
)
def test_what_is_wrong_is_named_with_its_path(read: Callable[[], object], problem: str) -> None:
    with pytest.raises(ValueError, match="is") as raised:
        read()
    assert str(raised.value) == problem


def test_a_field_that_nobody_asked_for_is_unknown() -> None:
    fields = JsonFields({"a": 1, "b": 2})
    fields.number("a")
    with pytest.raises(ValueError, match="b is not a field that this release knows"):
        fields.require_known()
    fields.number("b")
    fields.require_known()
