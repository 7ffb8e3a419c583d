"""What became of every key: numbers that add up, at every refresh and for every version, and the list behind them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from kb_pipeline.account import Account
from kb_pipeline.clean.refresh import documents_schema
from kb_pipeline.control.runs.status import describe_kb
from kb_pipeline.fetch.fetch_state import pages_schema
from kb_pipeline.model import document_id
from kb_pipeline.operations.account import account_of, left_out_of
from kb_pipeline.operations.approve import approve_version
from kb_pipeline.operations.erase_document import erase_document
from kb_pipeline.operations.key_fates import LeftOutKey, list_left_out, take_account
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.paths import KbPaths
from kb_pipeline.store.stage_tables import DOCUMENTS, PAGES
from kb_pipeline_tests.operations.home import KEY, Home, quick_refreshes, web_source
from kb_pipeline_tests.site import Site, serve_site

SHELL = "<html><body><div id=root></div><script src=/app.js></script></body></html>"


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with quick_refreshes():
        yield


@pytest.fixture
def home(tmp_path: Path, models_dir: Path) -> Home:
    return Home(tmp_path / "home", models_dir)


@pytest.fixture
def site() -> Iterator[Site]:
    """A page for each thing that can become of one."""
    with serve_site() as site:
        links = ("/apples", "/copy", "/old", "/out", "/closed", "/gone", "/hidden", "/app", "/down", "/deep")
        site.put("/", "Orchard", "The handbook of our orchard: how fruit is picked and stored.", links)
        site.put("/apples", "Apples", "Apples keep for months in a cool and dark cellar.")
        site.put("/pears", "Pears", "Pears ripen after they are picked.")
        site.pages["/copy"] = site.pages["/apples"]
        site.redirects["/old"] = "/pears"
        site.put("/out", "Out", "The file leaves this page out.")
        site.put("/closed", "Closed", "No robot may come here.")
        site.pages["/robots.txt"] = "User-agent: *\nDisallow: /closed\n"
        site.put("/hidden", "Hidden", "Nobody is to find this page.")
        site.pages["/hidden"] = site.pages["/hidden"].replace("<title>", "<meta name=robots content=noindex><title>")
        site.pages["/app"] = SHELL
        site.status["/down"] = 500
        site.put("/deep", "Deep", "Below this page lies another one.", ("/deep/deeper",))
        site.put("/deep/deeper", "Deeper", "This page lies two links from the first.")
        yield site


def account(home: Home, as_of: str | None = None) -> Account:
    return account_of(home.settings, home.db, home.readers, KEY, as_of)


def left_out(home: Home, as_of: str | None = None, **wanted: str) -> list[LeftOutKey]:
    return list(left_out_of(home.settings, home.db, home.readers, KEY, as_of, **wanted))


def by_path(rows: list[LeftOutKey]) -> dict[str, str]:
    return {"/" + row.key.split("/", 3)[3]: f"{row.category} {row.reason}" for row in rows}


LEFT_OUT = {
    "/out": "file excluded",
    "/closed": "site robots",
    "/gone": "site not_found",
    "/hidden": "site noindex",
    "/app": "limits needs_javascript",
    "/deep/deeper": "limits too_deep",
    "/down": "failed http_500",
}


def test_every_key_is_accounted_for_once(home: Home, site: Site) -> None:
    home.apply(site, source={"exclude": ["/out"], "max_depth": 1})
    refreshed = home.refresh()
    taken = account(home)
    assert taken.adds_up
    assert (taken.known, taken.documents, taken.aliases, taken.duplicates) == (13, 4, 1, 1)
    assert taken.documents == len(home.keys()) == home.live().counts.documents
    assert by_path(left_out(home)) == LEFT_OUT
    for category in ("file", "site", "limits", "failed", "not_asked", "request"):
        told = Counter(text.split()[1] for text in LEFT_OUT.values() if text.startswith(category))
        assert taken.missing(category) == told
    assert Account.from_json(refreshed.stages["clean"]["account"]) == taken
    assert home.live().account == taken == describe_kb(home.db, KEY).account


def test_a_key_says_since_when_it_is_left_out_and_when_it_is_asked_again(home: Home, site: Site) -> None:
    home.apply(site, source={"exclude": ["/out"], "max_depth": 1})
    for _ in range(3):
        home.refresh()
    rows = {"/" + row.key.split("/", 3)[3]: row for row in left_out(home)}
    assert all(row.since is not None for row in rows.values())
    down, gone, out = rows["/down"], rows["/gone"], rows["/out"]
    assert down.asked_at is not None
    assert down.next_at is not None
    assert down.next_at > down.asked_at
    assert gone.asked_at is not None
    assert (out.asked_at, out.next_at) == (None, None)


def test_it_stays_with_the_kb_when_nothing_changes_and_with_each_version(home: Home, site: Site) -> None:
    home.apply(site, source={"exclude": ["/out"], "max_depth": 1})
    home.refresh()
    first = account(home)
    again = home.refresh()
    assert again.status == "unchanged"
    assert account(home) == first
    site.put("/down", "Up", "This page was down and is up again.")
    site.status.clear()
    assert home.refresh().version == 2
    assert account(home).missing("failed") == Counter()
    assert account(home, "1") == first
    assert by_path(left_out(home, "1")) == LEFT_OUT
    assert by_path(left_out(home)) == {path: why for path, why in LEFT_OUT.items() if path != "/down"}


def test_pages_that_a_limit_leaves_out_are_a_warning_for_as_long_as_they_are(home: Home, site: Site) -> None:
    site.status.clear()
    home.apply(site, source={"exclude": ["/app", "/down"], "max_depth": 1})
    first = home.refresh()
    assert first.ended == ("ready_with_warnings", 1)
    assert "1 page and what lies behind it are left out (too_deep): raise max_depth" in first.message
    again = home.refresh()
    assert again.ended == ("unchanged", 1)
    assert again.message == first.message
    home.apply(site, source={"exclude": ["/app", "/down"], "max_depth": 2})
    whole = home.refresh()
    assert (whole.status, whole.message) == ("ready", "1 page that had been left out (too_deep) came back")
    home.apply(site, source={"exclude": ["/app", "/down"], "max_depth": 1}, publish={"max_shrink": 1})
    lowered = home.refresh()
    assert lowered.status == "ready_with_warnings"
    assert lowered.message.startswith(
        "1 page and what lies behind it are left out (too_deep), 1 of which the live version has: raise "
    )
    assert account(home).adds_up


def test_a_version_that_is_approved_keeps_its_warnings(home: Home, site: Site) -> None:
    site.status.clear()
    home.apply(site, source={"exclude": ["/app", "/down"]})
    assert home.refresh().ended == ("ready", 1)
    home.apply(site, source={"exclude": ["/app", "/down"], "max_depth": 1}, publish={"max_shrink": 0.1})
    assert home.refresh().ended == ("held", 2)
    approve_version(home.settings, home.db, KEY, 2)
    approved = home.last()
    assert approved.ended == ("ready_with_warnings", 2)
    assert approved.message.startswith("approved\n1 page and what lies behind it are left out (too_deep): raise max_")


def test_what_was_erased_is_left_out_by_request(home: Home, site: Site) -> None:
    home.apply(site, source={"exclude": ["/out"], "max_depth": 1})
    home.refresh()
    erase_document(home.settings, home.db, KEY, f"{site.url}/apples")
    home.refresh()
    taken = account(home)
    assert (taken.adds_up, taken.missing("request")) == (True, Counter(erased=1))


def test_sources_are_told_apart(home: Home, site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text("# Medlars\n\nMedlars are bletted on straw until they are soft.")
    (folder / "b.md").write_text("")
    files = {"name": "files", "type": "files", "root": str(folder), "paths": ["*.md"]}
    home.apply_sources(KEY, [web_source(site, max_depth=1), files], "tester")
    home.refresh()
    taken = {source.source: source for source in account(home).sources}
    assert set(taken) == {"files", "site"}
    assert all(source.adds_up for source in taken.values())
    assert (taken["files"].known, taken["files"].documents) == (2, 1)
    assert [each.reason for each in taken["files"].reasons] == ["empty"]
    assert {row.source for row in left_out(home, source="files")} == {"files"}
    assert by_path(left_out(home, reason="too_deep")) == {"/deep/deeper": "limits too_deep"}


def test_before_the_first_refresh_nothing_is_known(home: Home, site: Site) -> None:
    home.apply(site)
    assert account(home) == Account(())
    assert left_out(home) == []
    assert describe_kb(home.db, KEY).account is None


def test_a_refresh_that_gives_nothing_leaves_its_reasons(home: Home, site: Site) -> None:
    site.pages["/robots.txt"] = "User-agent: *\nDisallow: /\n"
    home.apply(site)
    assert home.refresh().status == "failed"
    assert account(home).missing("site") == Counter(robots=1)
    assert by_path(left_out(home)) == {"/": "site robots"}


# Tables by hand


class Tables:
    """Pages and documents without a site."""

    def __init__(self, folder: Path) -> None:
        store = KbStore(KbPaths(folder, KEY))
        self.pages = store.tables.open_or_create(PAGES, pages_schema())
        self.documents = store.tables.open_or_create(DOCUMENTS, documents_schema())

    def add_pages(self, rows: list[dict[str, Any]]) -> None:
        full = [{"page_id": document_id("site", row["key"]), "source": "site", **row} for row in rows]
        self.pages.append(pa.Table.from_pylist(full, schema=pages_schema()).to_batches())


def test_a_key_whose_bytes_nobody_has_read_yet_is_not_lost(tmp_path: Path) -> None:
    tables = Tables(tmp_path)
    tables.add_pages([{"key": "/new", "outcome": "fetched", "sha256": "0" * 64}, {"key": "/odd"}])
    taken = take_account(tables.pages, tables.documents, {})
    assert taken.adds_up
    assert taken.missing("not_asked") == Counter(not_cleaned=1, undecided=1)


def test_what_a_crawl_could_not_see_makes_it_at_least(tmp_path: Path) -> None:
    tables = Tables(tmp_path)
    problems = [{"reason": "too_many_links"}, {"reason": "sitemap_invalid"}, {"reason": "sitemap_too_large"}]
    taken = take_account(tables.pages, tables.documents, {"not_recorded": 40, "problems": problems})
    assert (taken.not_recorded, taken.cut_listings, taken.at_least) == (40, 2, True)


def test_a_hundred_thousand_keys_are_listed_one_by_one(tmp_path: Path) -> None:
    tables = Tables(tmp_path)
    rows = [{"key": f"/{n:06}", "outcome": "rejected", "reason": ("too_deep", "robots")[n % 2]} for n in range(100_000)]
    tables.add_pages(rows)
    taken = take_account(tables.pages, tables.documents, {})
    assert (taken.known, taken.adds_up, taken.missing("limits")["too_deep"]) == (100_000, True, 50_000)
    listed = list_left_out(tables.pages, tables.documents, reason="robots")
    assert next(listed).key == "/000001"
    assert sum(1 for _ in listed) == 49_999
