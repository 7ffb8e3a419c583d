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

    def queued(self) -> list[str]:
        found = []
        while (taken := self.policy.take()) is not None:
            self.policy.current.release(taken[0])
            found.append(taken[1].url.removeprefix(SITE))
        return found

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


def test_traps_refuse_what_links_lead_to_and_believe_a_sitemap() -> None:
    found = Discovered(limits=CrawlLimits(per_directory=2))
    found.consider(*(f"/shop/{name}" for name in "abcd"))
    assert found.reasons() == {"/shop/c": "directory_limit", "/shop/d": "directory_limit"}
    found.consider("/shop/e", from_sitemap=True)
    assert found.queued() == ["/shop/a", "/shop/b", "/shop/e"]


def test_pages_without_news_send_their_links_to_the_end_until_another_page_links_there() -> None:
    found = Discovered()
    request = CrawlRequest(f"{SITE}/", 0)
    for path, links in (("/", ["/a"]), ("/copy", ["/b", "/c"])):  # the same text again
        html = page(*links, title="Same").body
        row = Row(f"{SITE}{path}", f"{SITE}{path}", "fetched", None, depth=0)  # type: ignore[arg-type]  # no time
        found.policy.follow(request, row, parse_page(html, "text/html", row.url, 100))
    found.consider("/late", depth=5)
    assert found.policy.new.is_waiting_last(f"{SITE}/b")
    found.consider("/c", depth=3)
    assert found.queued() == ["/a", "/c", "/late", "/b"]


def test_repetitive_pages_have_a_limit_that_grows_with_the_sites_own() -> None:
    found = Discovered(limits=CrawlLimits(repetitive_pages=2))
    repeated = CrawlRequest(f"{SITE}/x", 1, is_repetitive=True)
    assert [found.policy.is_over_repetitive_limit(repeated) for _ in range(4)] == [False, False, True, True]
    assert not found.policy.is_over_repetitive_limit(CrawlRequest(f"{SITE}/y", 1))


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
