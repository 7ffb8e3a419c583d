"""The stage over a real site and a real table: what a refresh writes, and what it leaves alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kb_pipeline.fetch.fetch_state import pages_schema
from kb_pipeline.fetch.journal_state import unfinished
from kb_pipeline.fetch.refresh import failed_pages, refresh_pages
from kb_pipeline.fetch.revisit import RevisitPolicy
from kb_pipeline.fetch.web.source import WebSite
from kb_pipeline.host_scheduler import LocalHostScheduler
from kb_pipeline.model import KbKey, PagesUsed, StageReport, document_id
from kb_pipeline.store import raw_segments
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.paths import KbPaths
from kb_pipeline.store.stage_tables import PAGES
from kb_pipeline_tests.fetch.web.conftest import rules_for
from kb_pipeline_tests.fetch.web.site import Hit, Page, Site, running_site


class Stage:
    """Refreshes one source again and again."""

    def __init__(self, folder: Path, site: Site) -> None:
        self.site = site
        self.rules = rules_for(site.url + "/", sitemap="auto", retries=0)
        self.store = KbStore(KbPaths(folder, KbKey("acme", "docs")))

    def refresh(self, recheck: RevisitPolicy = RevisitPolicy(), **changes: Any) -> StageReport:  # noqa: B008 - frozen
        rules = replace(self.rules, **changes)
        return refresh_pages(
            self.store, [WebSite(rules)], "run", lambda done, total: None, lambda source: LocalHostScheduler(), recheck
        )

    def row(self, path: str) -> dict[str, Any]:
        rows = self.store.tables.open(PAGES).read_columns(pages_schema().names).rows(named=True)
        return next(row for row in rows if row["key"] == self.site.url + path)

    def written(self) -> tuple[int, list[str]]:
        """Return the table's version and the raw segments."""
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
    assert (report.entered, report.passed, report.unchanged, report.deleted) == (4, 3, 3, 0)
    assert report.rejected == {"not_found": 1}, "what is not there is said again"
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
    assert (report.unchanged, report.extra["not_asked"]) == (3, 1)
    assert stage.site.count("/a") == asked
    assert stage.written() == before


def test_a_lastmod_of_today_may_still_change_and_is_not_trusted(stage: Stage) -> None:
    _sitemap(stage.site, lambda earlier: "2999-01-01")
    for _ in range(3):
        report = stage.refresh(trust_lastmod=True)
    assert stage.row("/a")["lastmod"] is None
    assert "not_asked" not in report.extra


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


def _failed(stage: Stage) -> dict[str, str]:
    return {row["key"].removeprefix(stage.site.url): row["message"] for row in failed_pages(stage.store)}


def test_a_page_that_keeps_failing_is_asked_for_ever_less_often_or_on_request(stage: Stage) -> None:
    stage.site.pages["/b"] = Page(status=500)
    for failures in range(1, 9):
        report = stage.refresh(RevisitPolicy(retry=True))
        assert (stage.row("/b")["failures"], report.failed["http_500"]) == (failures, 1)
    asked, before = stage.site.count("/b"), stage.written()
    report = stage.refresh()
    assert (stage.site.count("/b"), report.failed["http_500"]) == (asked, 1), "not asked for, yet not forgotten"
    assert stage.written() == before
    assert "failed in 8 refreshes in a row; not asked for before" in _failed(stage)["/b"]
    stage.site.link("/b")
    stage.refresh(RevisitPolicy(retry=True))
    row = stage.row("/b")
    assert (row["outcome"], row["failures"], row["tried_at"]) == ("fetched", None, None)
    assert "/b" not in _failed(stage)


def test_a_kept_page_that_fails_keeps_its_bytes_while_it_waits(stage: Stage) -> None:
    stage.refresh()
    kept = stage.row("/a")["sha256"]
    stage.site.pages["/a"] = Page(status=503)
    for _ in range(3):
        stage.refresh()
    assert stage.site.count("/a") == 4
    stage.refresh()
    assert stage.site.count("/a") == 4, "the third failure in a row is followed by a pause"
    row = stage.row("/a")
    assert (row["sha256"], row["failures"], row["reason"]) == (kept, 3, "http_503")


def test_what_was_not_asked_for_has_not_failed_once_more(stage: Stage) -> None:
    stage.refresh()
    stage.site.pages["/robots.txt"] = Page(status=500)
    with pytest.raises(Exception, match="gave no page"):
        stage.refresh()
    row = stage.row("/a")
    assert (row["outcome"], row["reason"], row["failures"]) == ("failed", "robots_unreachable", 0)


def test_changes_are_counted_from_the_first_bytes_on(stage: Stage) -> None:
    stage.refresh()
    first = stage.row("/a")
    assert (first["changes"], first["first_at"]) == (0, first["fetched_at"])
    for number in range(2):
        stage.site.link("/a", f"/new{number}")
        stage.refresh()
    stage.refresh()
    row = stage.row("/a")
    assert (row["changes"], row["first_at"]) == (2, first["first_at"])
    del stage.site.pages["/a"]
    stage.refresh()
    row = stage.row("/a")
    assert (row["changes"], row["first_at"]) == (None, None)


def test_an_adaptive_refresh_leaves_quiet_pages_alone_for_a_while(stage: Stage) -> None:
    adaptive = RevisitPolicy(max_age_s=86_400, next_refresh_s=1)
    for _ in range(3):
        stage.refresh(adaptive)
    asked, before = stage.site.count("/a"), stage.written()
    reports = [stage.refresh(adaptive) for _ in range(6)]
    assert stage.site.count("/a") - asked < 5
    assert stage.site.count("/") == 9, "start URLs are always asked for"
    assert sum(report.extra.get("not_asked", 0) for report in reports) > 2
    assert all((report.unchanged, report.failed.total()) == (3, 0) for report in reports)
    assert stage.written() == before
    asked = stage.site.count("/a")
    stage.refresh(RevisitPolicy(max_age_s=0.001))
    assert stage.site.count("/a") == asked + 1, "nothing is older than max_age"


def test_a_new_lastmod_has_a_quiet_page_asked_for_at_once(stage: Stage) -> None:
    adaptive = RevisitPolicy(max_age_s=86_400, next_refresh_s=1)
    _sitemap(stage.site, lambda earlier: "2026-01-02" if earlier < 6 else "2026-02-03")
    for _ in range(6):
        stage.refresh(adaptive, trust_lastmod=True)
    asked = stage.site.count("/a")
    stage.refresh(adaptive, trust_lastmod=True)
    assert stage.site.count("/a") == asked + 1


def test_what_a_page_says_of_its_use_is_kept_while_it_is_unchanged(stage: Stage) -> None:
    stage.site.pages["/a"] = Page(b'<meta name=robots content="noarchive"><p>words')
    for _ in range(2):
        stage.refresh()
        assert json.loads(stage.row("/a")["consent"])["directives"] == ["noarchive"]
    headers = {"Content-Type": "text/html", "X-Robots-Tag": "noai"}
    stage.site.pages["/a"] = Page(b'<meta name=robots content="noarchive"><p>words', headers=headers)
    stage.refresh()
    assert json.loads(stage.row("/a")["consent"])["directives"] == ["noai", "noarchive"]
    stage.site.pages["/a"] = Page(b"<p>other words")
    stage.refresh()
    assert stage.row("/a")["consent"] is None


def test_a_page_that_turns_noindex_loses_its_bytes(stage: Stage) -> None:
    stage.refresh()
    stage.site.pages["/a"] = Page(b'<meta name=robots content="noindex"><p>words')
    report = stage.refresh()
    assert (report.rejected["noindex"], report.deleted) == (1, 1)
    assert stage.row("/a")["sha256"] is None


def test_problems_and_hosts_are_reported(stage: Stage) -> None:
    stage.site.pages["/sitemap.xml"] = Page(b"<urlset><url><loc>", headers={"Content-Type": "text/xml"})
    report = stage.refresh(sitemap=(f"{stage.site.url}/none.xml",))
    assert [(row["key"], row["reason"]) for row in report.extra["problems"]] == [
        (f"{stage.site.url}/none.xml", "not_found")
    ]
    (host,) = report.extra["hosts"]
    assert (host["host"], host["requests"]) == ("127.0.0.1", len(stage.site.hits))


class _Killed(BaseException):
    """As if the process had been killed."""


def test_a_fetch_that_is_killed_while_its_segments_move_is_over(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(name: str) -> None:
        if name == "raw.adopt":
            raise _Killed

    with monkeypatch.context() as patched:
        patched.setattr(raw_segments, "failpoint", die)
        with pytest.raises(_Killed):
            stage.refresh()
    assert list(unfinished(stage.store.paths)) == []  # it has been counted, and its journal is no longer whole
    stage.site.link("/b", "/a", "/new")
    stage.site.link("/new")
    stage.refresh()
    rows = stage.store.tables.open(PAGES).read_columns(["key", "sha256", "segment", "position"], "sha256 IS NOT NULL")
    assert rows.height == 4
    for row in rows.iter_rows(named=True):
        segment = pq.read_table(stage.store.paths.raw / row["segment"], columns=["key", "sha256"])
        assert segment.to_pylist()[row["position"]] == {"key": row["key"], "sha256": row["sha256"]}


class _Account:
    """Allows so many pages, and remembers what it was told."""

    def __init__(self, pages: int) -> None:
        self.left = pages
        self.counted: dict[str, PagesUsed] = {}

    def take(self, pages: int) -> int:
        taken = min(pages, self.left)
        self.left -= taken
        return taken

    def count(self, fetch_id: str, days: Mapping[str, PagesUsed]) -> None:
        self.counted.update({f"{fetch_id} {day}": used for day, used in days.items()})


def test_an_account_that_comes_to_its_end_stops_the_fetch_and_nothing_counts_as_gone(stage: Stage) -> None:
    stage.refresh()
    account = _Account(2)
    report = refresh_pages(
        stage.store,
        [WebSite(stage.rules)],
        "run",
        lambda done, total: None,
        lambda source: LocalHostScheduler(),
        account=account,
    )
    assert (report.entered, report.passed, report.failed["quota"], report.deleted) == (4, 2, 1, 0)
    assert report.rejected["not_found"] == 1, "a page that was not there has its old outcome"
    assert report.reconciles
    assert [used.pages for used in account.counted.values()] == [2]
    pages = stage.store.tables.open(PAGES)
    assert pages.count("sha256 IS NOT NULL") == 3
    assert pages.count("reason = 'quota'") == 1
