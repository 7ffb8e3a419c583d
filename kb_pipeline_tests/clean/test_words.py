"""Words that cleaning removed are counted by source and reason, and pages that lost much of their prose are named."""

from __future__ import annotations

from pathlib import Path

from kb_pipeline.clean.words import lost_share
from kb_pipeline_tests.clean.html.test_article import DECLARED, OFFER, STORY
from kb_pipeline_tests.clean.stored_site import ORIGIN, StoredSite

PROSE = "The keeper of the lock opens both gates before the tide turns. " * 4
NAV = "<nav><a href=/one>One more page</a> <a href=/two>Two more pages</a></nav>"


def test_words_are_summed_by_source_and_reason(tmp_path: Path) -> None:
    site = StoredSite(tmp_path)
    site.put({"/": f"<title>Lock</title><body>{NAV}<p>{PROSE}</p>", "/one": f"<title>One</title><p>{PROSE} One.</p>"})
    (words,) = site.refresh().extra["words"]
    assert words == {
        "source": "site", "kept": 97, "navigation": 6, "controls": 0, "hidden": 0, "outside_main": 0,
        "repeated": 0, "outside_article": 0,
    }  # fmt: skip
    assert site.refresh().extra["words"] == [words]  # cleaned or not, it is of all documents


def test_pages_that_lost_much_prose_are_counted_and_the_worst_is_named(tmp_path: Path) -> None:
    comments = f"<div class=comments>{OFFER * 8}</div>"
    site = StoredSite(tmp_path)
    site.put({"/whole": f"<title>Lock</title><p>{PROSE}</p>", "/vote": f"{DECLARED}<h1>Vote</h1>{STORY}{comments}"})
    assert site.refresh().extra["lossy_pages"] == [{"source": "site", "pages": 1, "key": f"{ORIGIN}/vote"}]


def test_only_prose_counts_as_a_loss() -> None:
    assert lost_share({"kept": 10, "navigation": 500, "controls": 50}) == 0
    assert lost_share({"kept": 60, "hidden": 20, "outside_article": 20}) == 0.4
    assert lost_share({}) == 0
