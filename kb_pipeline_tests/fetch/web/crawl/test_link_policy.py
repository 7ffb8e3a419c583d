"""What becomes of a URL that a crawl discovers: its queue, its place there, or its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kb_pipeline.fetch.web.crawl.frontier import CrawlRequest
from kb_pipeline.fetch.web.crawl.journal import Row
from kb_pipeline.fetch.web.crawl.known_pages import KnownPages
from kb_pipeline.fetch.web.crawl.link_policy import Discovery
from kb_pipeline.fetch.web.crawl.statistics import Statistics
from kb_pipeline.fetch.web.parse.html_links import parse_page
from kb_pipeline.fetch.web.rules import CrawlLimits
from kb_pipeline_tests.fetch.web.conftest import known_file, rules_for
from kb_pipeline_tests.fetch.web.scripted import SITE, page


class Rows:
    """Takes the place of the journal: only what is appended to it matters here."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def append(self, row: Row) -> None:
        self.rows.append(row)


class Discovered:
    """A crawl's discovery, with the rows that it wrote."""

    def __init__(self, known: Path | None = None, **changes: Any) -> None:
        self.journal = Rows()
        self.statistics = Statistics(self.journal)  # type: ignore[arg-type]  # a journal in memory
        self.policy = Discovery(rules_for(f"{SITE}/", **changes), KnownPages(known), self.statistics)

    def consider(self, *paths: str, depth: int = 1, **how: Any) -> None:
        self.policy.consider([path if "://" in path else SITE + path for path in paths], depth, **how)

    def read(self, path: str, title: str) -> None:
        """A visit found a page with a text that belongs to its title."""
        html = page(title=title).body
        row = Row(SITE + path, SITE + path, "fetched", None, depth=0)  # type: ignore[arg-type]  # no time
        self.policy.follow(CrawlRequest(row.key, 1), row, parse_page(html, "text/html", row.url, 100))

    def end(self, path: str, outcome: str, **fields: Any) -> None:
        """A visit found no page."""
        row = Row(SITE + path, SITE + path, outcome, None, depth=0, **fields)  # type: ignore[arg-type]  # no time
        self.policy.end(CrawlRequest(row.key, 1), row)

    def queued(self) -> list[str]:
        """Take what may be taken until one of the visits ends, then end them all."""
        found = []
        while (taken := self.policy.take()) is not None:
            found.append(taken)
        for host, _ in found:
            self.policy.current.release(host)
        return [request.url.removeprefix(SITE) for _, request in found]

    def reasons(self) -> dict[str, str | None]:
        return {row.key.removeprefix(SITE): row.reason for row in self.journal.rows}

    def summary(self) -> Any:
        return self.statistics.summary(0, 0, finished=True, engines=())


def test_a_link_is_queued_once_whoever_links_to_it() -> None:
    found = Discovered()
    found.consider("/a", "/b", "/a")
    found.consider("/b", depth=2)
    assert found.queued() == ["/a", "/b"]


def test_links_out_of_scope_are_counted_and_get_no_row() -> None:
    found = Discovered()
    found.consider("http://elsewhere.example/", "http://elsewhere.example/", "/in")
    assert (found.queued(), found.reasons(), found.summary().out_of_scope) == (["/in"], {}, 1)


def test_globs_leave_a_link_out_with_a_reason() -> None:
    found = Discovered(include=("/guide/**",), exclude=("/guide/old/**",))
    found.consider("/guide/a", "/blog/b", "/guide/old/c")
    assert (found.queued(), found.reasons()) == (["/guide/a"], {"/blog/b": "excluded", "/guide/old/c": "excluded"})


def test_too_deep_is_final_only_at_the_end() -> None:
    found = Discovered(max_depth=2)
    found.consider("/near", "/far", depth=3)
    found.consider("/near", depth=2)
    assert (found.queued(), found.reasons()) == (["/near"], {})
    found.policy.record_leftovers("max_pages")
    assert found.reasons() == {"/far": "too_deep"}


def test_a_pattern_without_news_is_parked_with_the_limit_that_held_it_and_a_sitemap_is_believed() -> None:
    found = Discovered(limits=CrawlLimits(per_directory=2, per_query_pattern=1))
    found.consider(*(f"/shop/{name}" for name in "abcd"), "/list?page=1", "/list?page=2")
    found.consider("/shop/e", from_sitemap=True)
    assert found.queued() == ["/shop/a", "/shop/b", "/list?page=1", "/shop/e"]
    found.consider("/shop/d", from_sitemap=True)
    assert found.queued() == ["/shop/d"]
    found.policy.record_leftovers("max_pages")
    assert found.reasons() == {"/shop/c": "directory_limit", "/list?page=2": "query_limit"}


def test_a_parked_url_is_released_by_news_of_its_pattern_and_keeps_its_least_depth() -> None:
    found = Discovered(limits=CrawlLimits(per_directory=1))
    found.consider("/shop/a", "/shop/b", "/shop/c", depth=5)
    assert found.queued() == ["/shop/a"]
    found.consider("/shop/b", depth=2)
    found.read("/shop/a", title="First")
    taken = found.policy.take()
    assert taken is not None
    assert (taken[1].url, taken[1].depth) == (f"{SITE}/shop/b", 2)


def test_what_leads_nowhere_costs_a_pattern_nothing_and_a_redirect_to_what_is_known_does() -> None:
    found = Discovered(limits=CrawlLimits(per_directory=2))
    found.consider(*(f"/shop/{name}" for name in "abcde"), "/known")
    taken = [found.policy.take() for _ in range(3)]
    assert {one[1].url for one in taken if one} == {SITE + path for path in ("/shop/a", "/shop/b", "/known")}
    found.end("/shop/a", "rejected", reason="not_found")
    found.end("/shop/b", "redirected", redirect_to=f"{SITE}/known")
    assert [found.policy.take() is not None for _ in range(2)] == [True, False]


def test_a_few_parked_urls_are_tried_when_nothing_else_is_left() -> None:
    found = Discovered(limits=CrawlLimits(per_directory=1))
    found.consider(*(f"/shop/{number}" for number in range(20)), *(f"/blog/{number}" for number in range(20)))
    assert found.queued() == ["/shop/0", "/blog/0"]
    tried: list[str] = []
    while probe := found.queued():
        tried += probe
    assert 2 <= len(tried) < 10
    assert {path.split("/")[1] for path in tried} == {"shop", "blog"}, "patterns take turns"


def test_pages_without_news_send_their_links_to_the_end_until_another_page_links_there() -> None:
    found = Discovered()
    # The same text again and again: once may be a chapter of what was read as one page.
    for path, links in (("/", ["/a"]), ("/1", []), ("/2", []), ("/copy", ["/b", "/c"])):
        html = page(*links, title="Same").body
        row = Row(f"{SITE}{path}", f"{SITE}{path}", "fetched", None, depth=0)  # type: ignore[arg-type]  # no time
        found.policy.follow(CrawlRequest(row.key, 0), row, parse_page(html, "text/html", row.url, 100))
    found.consider("/late", depth=5)
    assert found.policy.new.is_waiting_last(f"{SITE}/b")
    found.consider("/c", depth=3)
    assert found.queued() == ["/a", "/c", "/late", "/b"]


def test_known_pages_are_seeds_and_no_discoveries(tmp_path: Path) -> None:
    known = known_file(tmp_path / "known.parquet", {"key": f"{SITE}/k1"}, {"key": f"{SITE}/k2"})
    found = Discovered(known)
    found.policy.current = found.policy.known_urls
    found.consider("/k1", "/new")
    found.policy.seed(KnownPages(known).pages(lambda _: True))
    assert found.queued() == ["/k1", "/k2"]
    found.policy.current = found.policy.new
    assert found.queued() == ["/new"]


def test_what_is_left_over_has_a_row_with_the_reason_seeds_too(tmp_path: Path) -> None:
    known = known_file(tmp_path / "known.parquet", {"key": f"{SITE}/k1"})
    found = Discovered(known)
    found.consider("/a", "/b")
    found.policy.seed(KnownPages(known).pages(lambda _: True))
    found.policy.record_leftovers("quota")
    assert found.reasons() == dict.fromkeys(("/a", "/b", "/k1"), "quota")
    assert found.queued() == []
