"""The tree of errors is the one that the module's docstring draws."""

from __future__ import annotations

import inspect
import re

from kb_pipeline import errors
from kb_pipeline.errors import KbError, UsageError

CLASSES = {name: each for name, each in vars(errors).items() if inspect.isclass(each) and issubclass(each, KbError)}
DRAWN = dict(re.findall(r"^(?:│   |    )*[├└]── (\w+) +(\S.*)$", str(errors.__doc__), re.MULTILINE))


def test_every_error_is_drawn_once_with_what_it_means() -> None:
    assert set(DRAWN) | {"KbError"} == set(CLASSES)


def test_an_error_is_drawn_below_the_one_that_it_is_a_kind_of() -> None:
    below_usage = set(re.findall(r"^│   (?:│   |    )?[├└]── (\w+)", str(errors.__doc__), re.MULTILINE))
    assert below_usage == {name for name, each in CLASSES.items() if issubclass(each, UsageError)} - {"UsageError"}


def test_what_may_pass_by_itself_is_drawn_as_transient() -> None:
    assert {name for name, meaning in DRAWN.items() if "(transient)" in meaning} == {
        name for name, each in CLASSES.items() if each.transient
    }


def test_every_error_says_what_it_is_in_its_first_line() -> None:
    assert [name for name, each in CLASSES.items() if not (each.__doc__ or "").splitlines()[0].endswith(".")] == []
