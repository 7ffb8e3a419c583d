"""The account of a KB: its sums, and what is written of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from kb_pipeline.account import Account, ReasonCount, SourceAccount

SITE = SourceAccount(
    "site", 12, 5, 1, 2, (ReasonCount("fetch", "too_deep", "limits", 3), ReasonCount("clean", "too_deep", "failed", 1))
)
WIKI = SourceAccount("wiki", 4, 2, 0, 0, (ReasonCount("fetch", "too_deep", "limits", 2),))
ACCOUNT = Account((SITE, WIKI), not_recorded=0, cut_listings=1)


def test_the_sums_are_those_of_the_sources() -> None:
    assert (ACCOUNT.known, ACCOUNT.documents, ACCOUNT.aliases, ACCOUNT.duplicates) == (16, 7, 1, 2)
    assert ACCOUNT.missing("limits") == {"too_deep": 5}
    assert ACCOUNT.missing("failed") == {"too_deep": 1}
    assert not ACCOUNT.missing("site")


def test_a_key_that_is_not_accounted_for_is_noticed() -> None:
    assert ACCOUNT.adds_up
    assert not Account((SITE, replace(WIKI, known=5))).adds_up


def test_a_cut_listing_makes_it_a_lower_bound() -> None:
    assert ACCOUNT.at_least
    assert Account((SITE,), not_recorded=3).at_least
    assert not Account((SITE,)).at_least


def test_what_is_written_is_read_back() -> None:
    written = json.loads(json.dumps(ACCOUNT.as_json()))
    assert Account.from_json(written) == ACCOUNT
    assert (written["limits"], written["failed"], written["site"], written["at_least"]) == (5, 1, 0, True)


def test_sums_that_are_not_those_of_the_sources_are_refused() -> None:
    with pytest.raises(ValueError, match="limits is 6, not 5"):
        Account.from_json(ACCOUNT.as_json() | {"limits": 6})


def test_a_category_that_nobody_knows_is_refused() -> None:
    written = json.loads(json.dumps(ACCOUNT.as_json()))
    written["sources"][0]["reasons"][0]["category"] = "fate"
    with pytest.raises(ValueError, match="category is 'fate'"):
        Account.from_json(written)
