"""Every key is judged again at every refresh: a site that did not change then has what a new KB of it would have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kb_pipeline.fetch.fetch_state import pages_schema
from kb_pipeline.fetch.revisit import RevisitPolicy
from kb_pipeline.model import document_id
from kb_pipeline.store.stage_tables import PAGES
from kb_pipeline_tests.fetch.test_refresh import Stage
from kb_pipeline_tests.fetch.web.site import Page, Site, running_site


def grow(site: Site, depth: int = 6) -> None:
    """Serve a site of which every page leads one deeper: / to /1 and /x0, /1 to /1/2 and /x1, and so on."""
    path = ""
    for level in range(depth):
        below = f"{path}/{level + 1}"
        site.link(path or "/", below, f"/x{level}")
        site.link(f"/x{level}")
        path = below
    site.link(path)


class Tree(Stage):
    """Refreshes of that site, without sitemaps."""

    def refresh(self, recheck: RevisitPolicy = RevisitPolicy(), **changes: Any) -> Any:  # noqa: B008 - frozen
        return super().refresh(recheck, **{"sitemap": "off", **changes})

    def pages(self) -> set[str]:
        """Return the paths of the pages with bytes."""
        return {path for path, row in self.rows().items() if row["sha256"]}

    def reasons(self) -> dict[str, str | None]:
        """Return why each of the others has none."""
        return {path: row["reason"] or row["outcome"] for path, row in self.rows().items() if not row["sha256"]}

    def rows(self) -> dict[str, dict[str, Any]]:
        rows = self.store.tables.open(PAGES).read_columns(pages_schema().names).rows(named=True)
        return {row["key"].removeprefix(self.site.url): row for row in rows}


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    with running_site() as site:
        grow(site)
        yield Tree(tmp_path, site)


@pytest.fixture
def fresh(tmp_path: Path, tree: Tree) -> Callable[..., set[str]]:
    """What a new KB of the site as it is now has, by these rules."""

    def pages(**rules: Any) -> set[str]:
        made = Tree(tmp_path / "fresh", tree.site)
        made.refresh(**rules)
        return made.pages()

    return pages


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"exclude": ("/1/2", "/x3")}, {}),
        ({"include": ("/", "/1")}, {"include": ("/**",)}),
        ({"max_depth": 2}, {"max_depth": 20}),
        ({"max_pages": 3}, {"max_pages": 100}),
        ({"scope": "prefix"}, {"scope": "host"}),
        ({}, {"exclude": ("/1/2/3/**",)}),
        ({}, {"max_depth": 3}),
        ({}, {"include": ("/1/**",)}),
    ],
    ids=lambda rules: " ".join(f"{name}={value}" for name, value in rules.items()) or "none",
)
def test_an_edited_rule_takes_effect_at_the_next_refresh_of_a_site_that_did_not_change(
    tree: Tree, fresh: Callable[..., set[str]], before: dict[str, Any], after: dict[str, Any]
) -> None:
    tree.refresh(**before)
    asked = tree.site.count("/1")
    tree.refresh(**after)
    assert tree.pages() == fresh(**after)
    assert tree.site.count("/1") <= asked + 2, "unchanged pages are asked once, and once by the new KB"


def test_what_an_edit_cuts_off_gives_its_place_among_max_pages_at_once(
    tree: Tree, fresh: Callable[..., set[str]]
) -> None:
    for path, *links in (("/x0", "/a"), ("/a", "/b"), ("/b", "/c"), ("/c",)):
        tree.site.link(path, *links)
    tree.refresh(max_pages=6)
    assert tree.pages() == {"/", "/1", "/x0", "/1/2", "/x1", "/a"}
    edited: dict[str, Any] = {"max_pages": 6, "exclude": ("/1",)}
    tree.refresh(**edited)
    assert tree.pages() == fresh(**edited) == {"/", "/x0", "/a", "/b", "/c"}


def test_lowering_max_pages_keeps_the_pages_nearest_to_the_start(tree: Tree) -> None:
    tree.refresh()
    report = tree.refresh(max_pages=4)
    assert tree.pages() == {"/", "/1", "/x0", "/1/2"}
    assert report.rejected["max_pages"] >= 9
    tree.refresh()
    assert len(tree.pages()) == 13


def test_a_place_that_a_page_gives_up_goes_to_the_nearest_stored_page(
    tree: Tree, fresh: Callable[..., set[str]]
) -> None:
    tree.refresh()
    tree.site.pages["/x0"] = Page(status=404)
    tree.site.pages["/robots.txt"] = Page(b"User-agent: *\nDisallow: /x1\n", headers={"Content-Type": "text/plain"})
    tree.refresh(max_pages=5)
    assert tree.pages() == fresh(max_pages=5) == {"/", "/1", "/1/2", "/1/2/3", "/x2"}


def test_what_an_erased_page_led_to_is_as_far_away_as_by_other_links(
    tree: Tree, fresh: Callable[..., set[str]]
) -> None:
    tree.site.link("/", "/1", "/x0", "/near")
    tree.site.link("/near", "/x5")
    tree.refresh()
    assert "/x5" in tree.pages()
    edited: dict[str, Any] = {"max_depth": 4, "erased": (document_id("site", f"{tree.site.url}/near"),)}
    tree.refresh(**edited)
    assert tree.pages() == fresh(**edited)
    assert "/x5" not in tree.pages()


def test_robots_that_are_lifted_let_a_page_in(tree: Tree) -> None:
    tree.site.pages["/robots.txt"] = Page(b"User-agent: *\nDisallow: /1/2\n", headers={"Content-Type": "text/plain"})
    tree.refresh()
    assert tree.reasons() == {"/1/2": "robots"}
    del tree.site.pages["/robots.txt"]
    report = tree.refresh()
    assert len(tree.pages()) == 13
    assert report.extra["came_back"] == {"robots": 1}


def test_what_a_server_refused_is_asked_for_again(tree: Tree) -> None:
    site = tree.site
    html = dict(site.pages)
    site.pages["/1"] = Page(status=404)
    site.pages["/x0"] = Page(b'<meta name=robots content="noindex"><p>hidden')
    site.redirect("/moved", "/x0", 301)
    site.link("/", "/1", "/x0", "/moved", "/late", "/file")
    site.pages["/file"] = Page(b"\x89PNG", headers={"Content-Type": "image/png"})
    for _ in range(2):
        tree.refresh()
    assert tree.reasons() == {
        "/1": "not_found", "/x0": "noindex", "/moved": "redirected", "/late": "not_found", "/file": "content_type",
    }  # fmt: skip
    site.pages.update({path: html[path] for path in ("/1", "/x0")})
    for path in ("/moved", "/late", "/file"):
        site.link(path)
    report = tree.refresh()
    assert not tree.reasons()
    assert report.extra["came_back"] == {"content_type": 1, "noindex": 1, "not_found": 2, "redirected": 1}
    assert len(tree.pages()) == 13 + 3


def test_what_nothing_leads_to_any_more_is_forgotten_unless_it_has_bytes(tree: Tree) -> None:
    tree.site.link("/", "/1", "/x0", "/nowhere")
    tree.refresh()
    assert "/nowhere" in tree.reasons()
    tree.site.link("/", "/1")
    report = tree.refresh()
    assert "/nowhere" not in tree.rows()
    assert "/x0" in tree.pages(), "it still answers"
    assert report.deleted == 0


def test_a_page_that_is_linked_from_nearer_brings_what_hangs_on_it_nearer(
    tree: Tree, fresh: Callable[..., set[str]]
) -> None:
    tree.refresh(max_depth=3)
    assert "/1/2/3/4" not in tree.pages()
    tree.site.link("/x0", "/1/2/3")
    tree.refresh(max_depth=3)
    assert tree.pages() == fresh(max_depth=3)
    assert "/1/2/3/4" in tree.pages()


def test_an_empty_answer_keeps_the_page_and_is_a_failure(tree: Tree) -> None:
    tree.refresh()
    kept = tree.rows()["/1"]["sha256"]
    for body in (b"", b"<html><body> <!-- nothing --> </body></html>"):
        tree.site.pages["/1"] = Page(body)
        report = tree.refresh(RevisitPolicy(retry=True))
        row = tree.rows()["/1"]
        assert (row["outcome"], row["reason"], row["sha256"]) == ("failed", "empty_page", kept)
        assert report.failed == {"empty_page": 1}
        assert "/1/2" in tree.pages()


@pytest.mark.parametrize(
    "target", [Page(status=403), Page(status=404), Page(b"\x89PNG", headers={"Content-Type": "image/png"})]
)
def test_a_page_that_moved_to_what_gives_none_keeps_its_bytes(tree: Tree, target: Page) -> None:
    tree.refresh()
    tree.site.redirect("/x1", "/hop", 301)
    tree.site.redirect("/hop", "/target", 301)
    tree.site.pages["/target"] = target
    report = tree.refresh()
    row = tree.rows()["/x1"]
    assert (row["outcome"], row["reason"], row["sha256"] is None) == ("failed", "moved_to_nothing", False)
    assert report.failed["moved_to_nothing"] == 1
    tree.site.link("/target")
    tree.refresh(RevisitPolicy(retry=True))
    assert "/target" in tree.pages()
    assert tree.reasons()["/x1"] == "redirected"


def test_a_home_without_stored_links_reads_them_from_the_bytes_it_has(tree: Tree) -> None:
    tree.refresh(exclude=("/x2",))
    (tree.store.paths.site_notes("site") / "links.parquet").unlink()
    for page in tree.site.pages.values():
        assert isinstance(page, Page)
        object.__setattr__(page, "headers", {**page.headers, "ETag": '"same"'})
    received = len(tree.site.hits)
    report = tree.refresh()
    assert len(tree.pages()) == 13
    assert report.extra["came_back"] == {"excluded": 1}
    assert len(tree.site.hits) - received == 14, "robots.txt and each page, once"


def test_an_unchanged_site_with_keys_that_gave_nothing_writes_nothing(tree: Tree) -> None:
    hidden = [f"/hidden{number}" for number in range(20)]
    tree.site.link("/x0", *(f"/none{number}" for number in range(40)), "/skip")
    tree.site.link("/x1", *hidden)
    for path in hidden:
        tree.site.pages[path] = Page(b'<meta name=robots content="noindex"><p>Hidden')
    tree.refresh(exclude=("/skip",))
    before, asked = tree.written(), len(tree.site.hits)
    for _ in range(2):
        tree.refresh(exclude=("/skip",))
    assert tree.written() == before
    assert all("noindex" in tree.rows()[path]["consent"] for path in hidden), "the evidence stays"
    assert sum(hit.path.startswith(("/none", "/hidden")) for hit in tree.site.hits[asked:]) == 2 * 8
    assert tree.site.count("/skip") == 0


def test_a_failed_sitemap_forgets_nothing(tree: Tree) -> None:
    listing = f"<urlset><url><loc>{tree.site.url}/only-here</loc></url></urlset>".encode()
    tree.site.pages["/sitemap.xml"] = Page(listing, headers={"Content-Type": "text/xml"})
    tree.refresh(sitemap="auto")
    assert tree.reasons() == {"/only-here": "not_found"}
    tree.site.pages["/sitemap.xml"] = Page(status=500)
    tree.refresh(sitemap="auto")
    assert tree.reasons() == {"/only-here": "not_found"}


def test_an_exclusion_takes_out_what_only_a_page_of_the_sitemap_leads_to(tree: Tree) -> None:
    site = tree.site
    site.link("/named", "/behind")
    site.link("/behind")
    named = f"<urlset><url><loc>{site.url}/named</loc></url></urlset>".encode()
    site.pages["/sitemap.xml"] = Page(named, headers={"Content-Type": "text/xml"})
    tree.refresh(sitemap="auto")
    assert {"/named", "/behind"} <= tree.pages()
    tree.refresh(sitemap="auto", exclude=("/named",))
    assert tree.reasons()["/behind"] == "unlinked"


def test_an_exclusion_takes_out_what_only_a_redirect_leads_to(tree: Tree) -> None:
    site = tree.site
    site.link("/x0", "/moving")
    site.redirect("/moving", "/moved")
    tree.refresh()
    assert tree.reasons()["/moved"] == "not_found"
    tree.refresh(exclude=("/moving",))
    assert "/moved" not in tree.rows()


def test_a_page_that_is_lent_elsewhere_leads_there_at_every_refresh(tree: Tree) -> None:
    tree.refresh(max_depth=4)
    tree.site.redirect("/1", "/1/2/3/4")  # in two steps instead of four
    for _ in range(3):
        tree.refresh(RevisitPolicy(retry=True), max_depth=2)
        assert "/1/2/3/4" in tree.pages()


def test_a_page_that_comes_back_as_it_was_leads_where_it_led(tree: Tree) -> None:
    site = tree.site
    whole, page = (tree.refresh(), tree.pages())[1], site.pages["/1"]
    site.redirect("/1", "/x0")
    tree.refresh(max_depth=1)
    assert tree.pages() < whole
    site.pages["/1"] = page
    tree.refresh(RevisitPolicy(retry=True))
    assert tree.pages() == whole
