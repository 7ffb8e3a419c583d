"""What is learned of a site's traps is kept for its next refresh."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kb_pipeline.fetch.web.rules import CrawlLimits
from kb_pipeline_tests.fetch.test_refresh import Stage
from kb_pipeline_tests.fetch.web.crawl.shapes import TRAPS, beside_traps
from kb_pipeline_tests.fetch.web.site import Page, running_site

REAL = 30
GENERATORS = ("pages", "lost", "filters", "login")


class Pages(dict[str, Any]):
    """A site of pages and traps, in place of the dict of a site that a test fills."""

    def __init__(self) -> None:
        super().__init__()
        self.shape, self.wanted = beside_traps(GENERATORS, REAL)

    def get(self, path: str, default: Any = None) -> Any:
        place, _, query = path.partition("?")
        if path in self or path == "/robots.txt":
            return super().get(path, default)
        found = self.shape(place, dict(pair.partition("=")[::2] for pair in query.split("&") if pair))
        return default if found is None else Page(str(found).encode())


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with running_site() as site:
        site.pages = Pages()
        made = Stage(tmp_path, site)
        made.refresh(sitemap="off")
        yield made


def _asked_in_traps(stage: Stage) -> Counter[str]:
    firsts = (path.split("?")[0].split("/")[1] for path in stage.site.paths())
    return Counter(first for first in firsts if first in TRAPS)


def test_an_unchanged_refresh_goes_no_deeper_into_a_trap(stage: Stage) -> None:
    first, rows = _asked_in_traps(stage), stage.store.tables.open("pages").count()
    for refresh in range(2, 5):
        stage.site.hits.clear()
        report = stage.refresh(sitemap="off")
        assert _asked_in_traps(stage) <= first, f"refresh {refresh} asks for no new page of a trap"
        assert report.rejected["repetitive"] > 100, "what was left out is said again"
    # Pages of the trap suggest others at each visit: these have rows too, those that nothing leads to any more do not.
    assert stage.store.tables.open("pages").count() < 2 * rows


def test_a_new_page_is_found_though_the_site_has_traps(stage: Stage) -> None:
    stage.site.pages["/page/3"] = Page(b"<p>edited</p><a href='/page/fresh'>x</a><a href='/lost/1a2b3c4d5e'>x</a>")
    stage.site.pages["/page/fresh"] = Page(b"<p>An announcement that nobody has read so far</p>")
    stage.site.hits.clear()
    stage.refresh(sitemap="off")
    assert stage.row("/page/fresh")["outcome"] == "fetched"
    assert "/lost/1a2b3c4d5e" not in stage.site.paths()


def test_a_part_of_the_site_that_comes_back_is_whole(stage: Stage) -> None:
    stage.refresh(sitemap="off", exclude=("/page/1*",), max_pages=500)
    stage.refresh(sitemap="off")
    pages = stage.site.pages
    assert isinstance(pages, Pages)
    assert {path for path in pages.wanted if stage.row(path)["sha256"] is None} == set()


def test_edited_limits_give_every_pattern_another_chance(stage: Stage) -> None:
    before = _asked_in_traps(stage)
    stage.site.hits.clear()
    stage.refresh(sitemap="off", limits=CrawlLimits(repetitive_pages=200))
    assert _asked_in_traps(stage)["login"] > before["login"]
