"""The stage over a real site and a real table: what a refresh writes, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from kb_pipeline.fetch.pages import pages_schema
from kb_pipeline.fetch.refresh import refresh_pages
from kb_pipeline.fetch.web.turns import UnsharedTurns
from kb_pipeline.model import KbKey, StageReport, document_id
from kb_pipeline.storage import KbPaths
from kb_pipeline.tables import PAGES, KbStore
from kb_pipeline_tests.fetch.web.conftest import rules_for
from kb_pipeline_tests.fetch.web.site import Hit, Page, Site, running_site


class Stage:
    """Refreshes one source again and again."""

    def __init__(self, folder: Path, site: Site) -> None:
        self.site = site
        self.rules = rules_for(site.url + "/", sitemap="auto", retries=0)
        self.store = KbStore(KbPaths(folder, KbKey("acme", "docs")))

    def refresh(self, **changes: Any) -> StageReport:
        return refresh_pages(
            self.store,
            [replace(self.rules, **changes)],
            "run",
            lambda done, total: None,
            lambda source: UnsharedTurns(),
        )

    def row(self, path: str) -> dict[str, Any]:
        rows = self.store.tables.open(PAGES).narrow(pages_schema().names).rows(named=True)
        return next(row for row in rows if row["key"] == self.site.url + path)

    def written(self) -> tuple[int, list[str]]:
        """The table's version and the raw segments."""
        return self.store.tables.open(PAGES).version, sorted(path.name for path in self.store.paths.raw.iterdir())


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with running_site() as site:
        site.link("/", "/a", "/b", "/gone")
        site.link("/a")
        site.link("/b")
        yield Stage(tmp_path, site)


def _sitemap(site: Site, lastmod: Callable[[int], str]) -> None:
    def answer(_: Hit, earlier: int) -> Page:
        line = f"<url><loc>{site.url}/a</loc><lastmod>{lastmod(earlier)}</lastmod></url>"
        return Page(f"<urlset>{line}</urlset>".encode(), headers={"Content-Type": "text/xml"})

    site.pages["/sitemap.xml"] = answer


def test_an_unchanged_site_writes_nothing(stage: Stage) -> None:
    assert stage.refresh().passed == 3
    before = stage.written()
    report = stage.refresh()
    assert (report.entered, report.passed, report.unchanged, report.deleted) == (3, 3, 3, 0)
    assert report.reconciles
    assert stage.written() == before


def test_a_sitemap_that_stamps_every_page_anew_writes_nothing(stage: Stage) -> None:
    _sitemap(stage.site, lambda earlier: f"2026-01-{earlier + 1:02d}")
    stage.refresh()
    before = stage.written()
    assert stage.refresh().unchanged == 3
    assert stage.written() == before


def test_a_trusted_lastmod_is_remembered_and_then_saves_the_request(stage: Stage) -> None:
    _sitemap(stage.site, lambda earlier: "2026-01-02")
    stage.refresh(trust_lastmod=True)
    stage.refresh(trust_lastmod=True)
    assert stage.row("/a")["lastmod"] == "2026-01-02"
    before, asked = stage.written(), stage.site.count("/a")
    report = stage.refresh(trust_lastmod=True)
    assert (report.unchanged, report.extra["skipped_by_lastmod"]) == (3, 1)
    assert stage.site.count("/a") == asked
    assert stage.written() == before


def test_a_lastmod_of_today_may_still_change_and_is_not_trusted(stage: Stage) -> None:
    _sitemap(stage.site, lambda earlier: "2999-01-01")
    for _ in range(3):
        report = stage.refresh(trust_lastmod=True)
    assert stage.row("/a")["lastmod"] is None
    assert "skipped_by_lastmod" not in report.extra


def test_a_page_that_failed_is_asked_for_whatever_the_sitemap_says(stage: Stage) -> None:
    _sitemap(stage.site, lambda earlier: "2026-01-02")
    for _ in range(2):
        stage.refresh(trust_lastmod=True)
    stage.site.pages["/a"] = Page(status=503)
    _sitemap(stage.site, lambda earlier: "2026-02-03")
    stage.refresh(trust_lastmod=True)
    assert (stage.row("/a")["outcome"], stage.row("/a")["lastmod"]) == ("failed", "2026-01-02")
    _sitemap(stage.site, lambda earlier: "2026-01-02")
    stage.site.link("/a")
    stage.refresh(trust_lastmod=True)
    assert stage.row("/a")["outcome"] == "fetched"


def test_a_blocked_address_keeps_the_bytes(stage: Stage) -> None:
    stage.refresh()
    before = stage.row("/a")
    with pytest.raises(Exception, match="gave no page"):
        stage.refresh(allowed_networks=())
    row = stage.row("/a")
    assert (row["outcome"], row["reason"]) == ("rejected", "blocked_address")
    assert (row["sha256"], row["segment"]) == (before["sha256"], before["segment"])


def test_erasing_ends_a_page(stage: Stage) -> None:
    stage.refresh()
    report = stage.refresh(erased=(document_id("site", stage.site.url + "/a"),))
    assert (report.rejected["erased"], report.deleted) == (1, 1)
    assert stage.row("/a")["sha256"] is None
    assert stage.site.count("/a") == 1


def test_a_table_of_an_earlier_release_learns_the_lastmod(stage: Stage) -> None:
    _sitemap(stage.site, lambda earlier: "2026-01-02")
    older = pa.schema([field for field in pages_schema() if field.name != "lastmod"])
    stage.store.tables.open_or_create(PAGES, older)
    for _ in range(2):
        stage.refresh(trust_lastmod=True)
    assert stage.row("/a")["lastmod"] == "2026-01-02"
