"""The crawler's loop over a site that is a dict, in virtual time: what is asked, when, and what becomes of it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from kb_pipeline.fetch.web.crawl.crawler import Crawler
from kb_pipeline.fetch.web.crawl.journal import JournalWriter, read_rows
from kb_pipeline.fetch.web.crawl.known_pages import KnownPages
from kb_pipeline.fetch.web.crawl.page_quota import unlimited
from kb_pipeline.fetch.web.crawl.robots_cache import RobotsCache, StoredRobots
from kb_pipeline.fetch.web.crawl.statistics import Statistics
from kb_pipeline.fetch.web.http.client import FetchError, PoliteClient
from kb_pipeline.fetch.web.politeness.host_throttle import CrawlStopped, HostThrottles
from kb_pipeline.fetch.web.rules import CrawlLimits, CrawlRules, CrawlSummary
from kb_pipeline.host_scheduler import LocalHostScheduler, Permit, Report
from kb_pipeline.model import document_id
from kb_pipeline_tests.fetch.web.conftest import files_at, known_file, note_links, rules_for
from kb_pipeline_tests.fetch.web.scripted import SITE, Answer, Script, ScriptedSite, page, redirect
from kb_pipeline_tests.fetch.web.virtual_time import run_in_virtual_time

TakePages = Callable[[int], Awaitable[int | None]]


class Crawl:
    """Crawls of one source into one journal."""

    def __init__(self, folder: Path, site: ScriptedSite) -> None:
        self.site, self.journal, self.folder = site, folder / "journal", folder
        self.summary: CrawlSummary | None = None

    def __call__(
        self,
        *known: dict[str, Any],
        stop_after: int | None = None,
        take_pages: TakePages = unlimited,
        start: str = f"{SITE}/",
        **changes: Any,
    ) -> dict[str, str]:
        """Crawl to the end, or until so many requests were sent; return the outcomes and reasons by path."""
        rules = rules_for(start, **changes)
        finished = run_in_virtual_time(self._crawl(rules, known, stop_after, take_pages))
        assert self.summary is not None
        assert self.summary.finished == finished
        return self.outcomes()

    def outcomes(self) -> dict[str, str]:
        rows = sorted(read_rows(self.journal), key=lambda row: str(row["key"]))
        return {row["key"].removeprefix(SITE): " ".join(filter(None, (row["outcome"], row["reason"]))) for row in rows}

    async def _crawl(
        self, rules: CrawlRules, known: tuple[dict[str, Any], ...], stop_after: int | None, take_pages: TakePages
    ) -> bool:
        path = known_file(self.folder / "known.parquet", *known) if known else None
        files = files_at(self.journal, path)
        files.notes.mkdir(exist_ok=True)
        note_links(files)
        writer, scheduler = JournalWriter(files.journal), LocalHostScheduler()

        async def exchange(reports: Mapping[str, Report]) -> Mapping[str, Permit]:
            return scheduler.exchange(reports)

        statistics = Statistics(writer)
        crawler = Crawler(rules, files, statistics, KnownPages(path), exchange, take_pages)
        stopping = asyncio.create_task(self._stop(crawler, stop_after))
        try:
            if known:
                await crawler.revalidate(self.site)
            if crawler.has_discoveries or not known:
                await crawler.discover(self.site)
            finished = crawler.finish()
        finally:
            stopping.cancel()
            writer.close()
        self.summary = statistics.summary(crawler.client.requests, 0, finished=finished, engines=())
        return finished

    async def _stop(self, crawler: Crawler, after: int | None) -> None:
        while after is not None and self.site.asked.total() < after:
            await asyncio.sleep(0.005)
        if after is not None:
            crawler.stop()


@pytest.fixture
def site() -> ScriptedSite:
    """A start page, two pages below it and one below these."""
    made = ScriptedSite()
    made["/"], made["/a"], made["/b"], made["/c"] = page("/a", "/b"), page("/c", "/"), page("/c", "/a"), page(title="C")
    return made


@pytest.fixture
def crawl(tmp_path: Path, site: ScriptedSite) -> Crawl:
    return Crawl(tmp_path, site)


def known_page(path: str, answer: Answer | None = None, **fields: Any) -> dict[str, Any]:
    """What an earlier refresh stored of a page."""
    return {"key": SITE + path, "sha256": hashlib.sha256((answer or page(title=path)).body).hexdigest(), **fields}


def test_every_page_is_fetched_once_after_robots_txt(crawl: Crawl, site: ScriptedSite) -> None:
    assert crawl() == dict.fromkeys(("/", "/a", "/b", "/c"), "fetched")
    assert site.requests[0][1].url == f"{SITE}/robots.txt"
    assert set(site.asked.values()) == {1}
    assert site.order()[0] == "/"


def test_robots_txt_decides_about_every_page(crawl: Crawl, site: ScriptedSite) -> None:
    site["/robots.txt"] = Answer(b"User-agent: *\nDisallow: /b", headers={"content-type": "text/plain"})
    assert crawl()["/b"] == "rejected robots"
    assert site.asked[f"{SITE}/b"] == 0


def test_an_unreachable_robots_txt_closes_its_host(crawl: Crawl, site: ScriptedSite) -> None:
    site["/robots.txt"] = Answer(status=503)
    assert crawl() == {"/": "failed robots_unreachable"}
    assert site.order() == []


def test_a_robots_txt_whose_fetch_was_stopped_is_not_read(tmp_path: Path, site: ScriptedSite) -> None:
    async def exchange(reports: Mapping[str, Report]) -> Mapping[str, Permit]:
        raise CrawlStopped  # the parent process is gone

    async def look() -> None:
        rules = rules_for(f"{SITE}/")
        throttles = HostThrottles(rules.delay_s, rules.concurrency, exchange)
        client = PoliteClient(site, throttles, rules)
        robots = RobotsCache(client, throttles, rules.user_agent, StoredRobots(tmp_path))
        assert robots.read_policy(SITE) is None
        with pytest.raises(CrawlStopped):
            await robots.policy(SITE)
        assert robots.read_policy(SITE) is None

    run_in_virtual_time(look())


def test_a_redirect_is_a_row_and_its_target_a_page(crawl: Crawl, site: ScriptedSite) -> None:
    site["/a"] = redirect("/moved")
    site["/moved"] = page(title="Moved")
    found = crawl()
    assert (found["/a"], found["/moved"], found["/c"]) == ("redirected", "fetched", "fetched")


def test_where_a_start_url_redirects_to_is_one_page_though_another_start_links_there(
    crawl: Crawl, site: ScriptedSite
) -> None:
    site["/old"] = redirect("/a")
    found = crawl(start_urls=(f"{SITE}/", f"{SITE}/old"), max_pages=3)
    assert site.asked[f"{SITE}/a"] == 1
    assert list(found.values()).count("fetched") == 3


def test_redirects_in_a_circle_end(crawl: Crawl, site: ScriptedSite) -> None:
    site["/a"], site["/d"] = redirect("/d"), redirect("/a")
    found = crawl()
    assert (found["/a"], found["/d"]) == ("redirected", "rejected redirect_loop")


def test_a_chain_of_redirects_has_an_end(crawl: Crawl, site: ScriptedSite) -> None:
    for number in range(20):
        site[f"/{number}"] = redirect(f"/{number + 1}")
    site["/a"] = redirect("/0")
    found = crawl(max_redirects=5)
    assert [name for name, outcome in found.items() if outcome == "rejected redirect_loop"] == ["/4"]
    assert "/6" not in found


def test_only_a_start_url_may_redirect_out_of_scope(crawl: Crawl, site: ScriptedSite) -> None:
    site["http://start.example/"] = redirect(f"{SITE}/")
    site["/a"] = redirect("http://elsewhere.example/")
    found = crawl(start="http://start.example/")
    assert (found["http://start.example/"], found["/"], found["/c"]) == ("redirected", "fetched", "fetched")
    assert found["/a"] == "rejected redirect_out_of_scope"
    assert site.asked["http://elsewhere.example/"] == 0


def test_a_page_deeper_than_allowed_is_rescued_by_a_nearer_link(crawl: Crawl, site: ScriptedSite) -> None:
    site["/c"], site["/d"] = page("/d", "/e"), page(title="D")
    site["/b"] = Answer(page("/d").body, takes_s=2.0)  # finds /d nearer, but later
    found = crawl(max_depth=2)
    assert (found["/d"], found["/e"]) == ("fetched", "rejected too_deep")


def test_max_pages_is_kept_however_many_requests_run_at_once(crawl: Crawl, site: ScriptedSite) -> None:
    site["/"] = page(*(f"/{number}" for number in range(50)))
    for number in range(50):
        site[f"/{number}"] = page(title=f"Number {number}")
    found = crawl(max_pages=10, concurrency=16)
    assert sorted(found.values()).count("fetched") == 10
    assert sorted(found.values()).count("rejected max_pages") == 41


def test_requests_to_a_host_run_at_once_up_to_the_concurrency(crawl: Crawl, site: ScriptedSite) -> None:
    site["/"] = page(*(f"/{number}" for number in range(40)))
    for number in range(40):
        site[f"/{number}"] = Answer(page(title=f"Number {number}").body, takes_s=0.5)
    crawl(concurrency=6)
    assert site.most_at_once["site.example"] == 6


def test_with_a_delay_requests_come_one_by_one_that_far_apart(crawl: Crawl, site: ScriptedSite) -> None:
    crawl(delay_s=10)
    times = site.times()
    assert len(times) == 5
    assert min(later - earlier for earlier, later in pairwise(times)) >= 10
    assert site.most_at_once["site.example"] == 1


def test_a_crawl_delay_counts_from_the_first_page_on(crawl: Crawl, site: ScriptedSite) -> None:
    site["/robots.txt"] = Answer(b"User-agent: *\nCrawl-delay: 30", headers={"content-type": "text/plain"})
    crawl(delay_s=1)
    assert min(later - earlier for earlier, later in pairwise(site.times())) >= 30


def test_a_crawl_delay_beyond_what_a_refresh_waits_is_a_reason_not_to_ask(crawl: Crawl, site: ScriptedSite) -> None:
    site["/robots.txt"] = Answer(b"User-agent: *\nCrawl-delay: 86400", headers={"content-type": "text/plain"})
    assert crawl() == {"/": "failed asked_to_wait"}
    assert site.order() == []


def test_a_delay_is_kept_from_known_pages_to_new_ones(crawl: Crawl, site: ScriptedSite) -> None:
    crawl(known_page("/", page("/a")), known_page("/a"), delay_s=10)
    assert site.order()[-2:] == ["/b", "/c"]
    assert min(later - earlier for earlier, later in pairwise(site.times())) >= 10


def test_a_transient_error_is_tried_again_and_a_lasting_one_given_up(crawl: Crawl, site: ScriptedSite) -> None:
    site["/a"] = lambda _, earlier: page("/c") if earlier == 2 else FetchError("timeout", "no byte")
    site["/b"] = lambda *_: Answer(status=503)
    site["/c"] = FetchError("tls", "certificate expired")
    assert crawl(retries=2) == {"/": "fetched", "/a": "fetched", "/b": "failed http_503", "/c": "failed tls"}
    assert [site.asked[SITE + path] for path in ("/a", "/b", "/c")] == [3, 3, 1]


def test_a_host_that_is_down_is_not_asked_again_and_again(crawl: Crawl, site: ScriptedSite) -> None:
    site["/"] = page(*(f"/{number}" for number in range(100)))
    for number in range(100):
        site[f"/{number}"] = FetchError("connection", "refused")
    found = crawl(retries=2, concurrency=4)
    assert list(found.values()).count("failed connection") == 100
    assert site.asked.total() < 100 + 30, "ten failures in a row, then one request each"


def test_retry_after_is_waited_for_and_a_longer_one_ends_the_hosts_pages(crawl: Crawl, site: ScriptedSite) -> None:
    site["/a"] = lambda _, earlier: page() if earlier else Answer(status=503, headers={"retry-after": "120"})
    assert crawl()["/a"] == "fetched"
    waited = [at for at, request in site.requests if request.url == f"{SITE}/a"]
    assert waited[1] - waited[0] >= 120
    site["/"] = page("/x", "/y")
    site["/x"] = Answer(status=429, headers={"retry-after": "7200"})
    later = Crawl(crawl.folder / "later", site)
    later.folder.mkdir()
    assert later(concurrency=1) == {"/": "fetched", "/x": "failed http_429", "/y": "failed asked_to_wait"}


def test_known_pages_are_asked_with_their_validators_before_new_ones(crawl: Crawl, site: ScriptedSite) -> None:
    site["/a"] = lambda request, _: Answer(status=304 if request.headers.get("If-None-Match") == '"a1"' else 200)
    site["/b"] = page("/new", title="/b edited")
    site["/new"] = page(title="New")
    known = [known_page("/", page("/a", "/b")), known_page("/a", etag='"a1"'), known_page("/b", last_modified="Monday")]
    found = crawl(*known)
    assert found == {"/": "unchanged", "/a": "unchanged", "/b": "fetched", "/new": "fetched"}
    assert site.headers_of("/b")["If-Modified-Since"] == "Monday"
    assert site.order()[-1] == "/new"


def test_max_pages_counts_known_pages_first(crawl: Crawl, site: ScriptedSite) -> None:
    known = [known_page("/", page("/a", "/b")), known_page("/a"), known_page("/b")]
    found = crawl(*known, max_pages=2)
    assert list(found.values()).count("rejected max_pages") == len(found) - 2
    assert site.asked[f"{SITE}/c"] == 0


def sitemap(**lastmods: str | None) -> Answer:
    entries = (
        f"<url><loc>{SITE}/{name}</loc>{f'<lastmod>{day}</lastmod>' if day else ''}</url>"
        for name, day in lastmods.items()
    )
    return Answer(f"<urlset>{''.join(entries)}</urlset>".encode(), headers={"content-type": "application/xml"})


_DAY, _LATER_DAY = "2026-01-02", "2026-02-03"
_DATED = {"same": _DAY, "other": _DAY, "unsaid": None, "dropped": _DAY}


def dated(site: ScriptedSite) -> list[dict[str, Any]]:
    """Known pages with these dates in the sitemap of that time; the site says the same as then."""
    site["/"] = page()
    for name in _DATED:
        site[f"/{name}"] = page(title=f"/{name}")
    return [known_page("/", page()), *(known_page(f"/{name}", lastmod=day) for name, day in _DATED.items())]


def test_pages_whose_lastmod_is_new_are_asked_for_first(crawl: Crawl, site: ScriptedSite) -> None:
    known = dated(site)
    site["/sitemap.xml"] = sitemap(same=_DAY, other=_LATER_DAY, unsaid=_DAY)
    assert set(crawl(*known, sitemap="auto", concurrency=1).values()) == {"unchanged"}
    assert site.order() == ["/", "/sitemap.xml", "/other", "/unsaid", "/dropped", "/same"]


def test_a_trusted_lastmod_saves_the_request_and_lifts_no_rule(crawl: Crawl, site: ScriptedSite) -> None:
    known = dated(site)
    site["/robots.txt"] = Answer(b"User-agent: *\nDisallow: /dropped", headers={"content-type": "text/plain"})
    site["/sitemap.xml"] = sitemap(same=_DAY, other=_LATER_DAY, unsaid=_DAY, dropped=_DAY)
    found = crawl(*known, sitemap="auto", trust_lastmod=True)
    assert (found["/same"], found["/other"], found["/dropped"]) == ("unchanged", "unchanged", "rejected robots")
    assert [site.asked[f"{SITE}/{name}"] for name in _DATED] == [0, 1, 1, 0]
    assert crawl.summary is not None
    assert crawl.summary.not_asked == 1


@pytest.mark.parametrize(
    "answer", [sitemap(), Answer(status=404), Answer(b"oops", 500)], ids=["empty", "gone", "error"]
)
def test_an_empty_or_vanished_sitemap_ends_no_page(crawl: Crawl, site: ScriptedSite, answer: Answer) -> None:
    known = dated(site)
    site["/sitemap.xml"] = answer
    assert set(crawl(*known, sitemap="auto", trust_lastmod=True, retries=0).values()) == {"unchanged"}
    assert [site.asked[f"{SITE}/{name}"] for name in _DATED] == [1, 1, 1, 1]


def test_a_known_page_that_is_gone_is_asked_twice_before_it_counts(crawl: Crawl, site: ScriptedSite) -> None:
    site["/a"] = Answer(status=410)
    site["/b"] = lambda _, earlier: page(title="Back") if earlier else Answer(status=404)
    found = crawl(known_page("/a"), known_page("/b"))
    assert (found["/a"], found["/b"]) == ("rejected not_found", "fetched")
    assert (site.asked[f"{SITE}/a"], site.asked[f"{SITE}/b"]) == (2, 2)


def test_a_known_page_that_waits_is_left_alone(crawl: Crawl, site: ScriptedSite) -> None:
    failed = {"sha256": None, "reason": "http_500", "message": "status 500"}
    known = [known_page("/a", waits=True), {"key": f"{SITE}/b", "waits": True, **failed}]
    found = crawl(*known)
    assert (found["/a"], found["/b"]) == ("unchanged", "failed http_500")
    assert (site.asked[f"{SITE}/a"], site.asked[f"{SITE}/b"]) == (0, 0)
    assert crawl.summary is not None
    assert crawl.summary.not_asked == 1


def test_a_known_page_that_the_rules_no_longer_cover_is_refused_but_not_when_the_start_failed(
    crawl: Crawl, site: ScriptedSite
) -> None:
    other = "http://other.example/"
    found = crawl({"key": other}, known_page("/old/x"), known_page("/deep", depth=9), exclude=("/old/**",), max_depth=3)
    assert (found[other], found["/old/x"]) == ("rejected out_of_scope", "rejected excluded")
    assert found["/deep"] == "rejected too_deep"
    site["/"] = FetchError("dns", "no such host")
    failed = Crawl(crawl.folder / "failed", site)
    failed.folder.mkdir()
    assert failed({"key": other}, retries=0)[other] == "failed start_failed"


def test_an_erased_document_is_asked_for_on_no_way(crawl: Crawl, site: ScriptedSite) -> None:
    site["/"], site["/moved"] = page("/linked", "/moved"), redirect("/target")
    erased = ("/known", "/linked", "/target")
    known = [known_page("/known"), known_page("/a")]
    found = crawl(*known, erased=tuple(document_id("site", SITE + path) for path in erased))
    assert {path: found[path] for path in erased} == dict.fromkeys(erased, "rejected erased")
    assert (found["/moved"], found["/a"]) == ("redirected", "fetched")
    assert not {SITE + path for path in erased} & set(site.asked)


def test_a_start_page_outside_the_globs_is_read_for_its_links_only(crawl: Crawl, site: ScriptedSite) -> None:
    site["/"] = page("/guide/a", "/guide/old/b", "/blog")
    site["/guide/a"], site["/guide/c"] = page("/guide/c"), page(title="C")
    assert crawl(include=("/guide/**",), exclude=("/guide/old/**",)) == {
        "/": "rejected excluded",
        "/blog": "rejected excluded",
        "/guide/a": "fetched",
        "/guide/c": "fetched",
        "/guide/old/b": "rejected excluded",
    }
    assert site.order() == ["/", "/guide/a", "/guide/c"]


def test_noindex_keeps_no_page_and_nofollow_no_link(crawl: Crawl, site: ScriptedSite) -> None:
    site["/a"] = page("/below-a", title="A", **{"x-robots-tag": "noindex"})
    site["/b"] = page("/below-b", "/c", title="B", **{"x-robots-tag": "nofollow"})
    site["/"] = page("/a", "/b", "/meta")
    site["/meta"] = Answer(b'<meta name="robots" content="nofollow"><a href="/below-meta">y</a>')
    assert crawl() == {
        "/": "fetched",
        "/a": "rejected noindex",
        "/b": "fetched",
        "/below-a": "rejected not_found",
        "/meta": "fetched",
    }


def test_an_account_that_is_used_up_ends_the_crawl_with_a_reason_for_each_url(crawl: Crawl, site: ScriptedSite) -> None:
    async def take(_: int) -> int:
        given, left[0] = min(left[0], 1), max(left[0] - 1, 0)
        return given

    left = [2]
    found = crawl(take_pages=take, concurrency=1)
    assert sorted(found.values()) == ["failed quota", "failed quota", "fetched", "fetched"]
    assert site.asked.total() == 3, "two pages and robots.txt"


def test_a_page_that_is_not_asked_for_costs_no_page_of_the_account(crawl: Crawl, site: ScriptedSite) -> None:
    async def take(_: int) -> int:
        taken[0] += 1
        return 1

    taken = [0]
    site["/"] = page("/busy", "/x", "/y", "/z")
    site["/busy"] = Answer(status=429, headers={"retry-after": "7200"})
    found = crawl(take_pages=take, concurrency=1)
    assert [found[path] for path in ("/x", "/y", "/z")] == ["failed asked_to_wait"] * 3
    assert taken == [3], "/, /busy, and one that went from each of the others to the next"


def test_an_error_of_the_account_ends_the_crawl(crawl: Crawl) -> None:
    async def take(_: int) -> int:
        raise OSError("the pipe is gone")

    with pytest.raises(OSError, match="the pipe is gone"):
        crawl(take_pages=take)


@pytest.mark.parametrize("stop_after", range(1, 7))
def test_a_crawl_stopped_anywhere_goes_on_without_asking_twice(
    crawl: Crawl, site: ScriptedSite, stop_after: int
) -> None:
    site["/c"] = page("/d", title="C")
    site["/d"] = page(title="D")
    crawl(stop_after=stop_after, concurrency=1)
    assert crawl() == dict.fromkeys(("/", "/a", "/b", "/c", "/d"), "fetched")
    asked = {url: count for url, count in site.asked.items() if not url.endswith("robots.txt")}
    assert set(asked.values()) == {1}


def test_a_resumed_crawl_knows_the_links_of_pages_that_were_not_kept(crawl: Crawl, site: ScriptedSite) -> None:
    site["/"] = page("/hidden")
    site["/hidden"] = page("/below", title="Hidden", **{"x-robots-tag": "noindex"})
    site["/below"] = page(title="Below")
    assert "/below" not in crawl(stop_after=3)
    assert crawl() == {"/": "fetched", "/below": "fetched", "/hidden": "rejected noindex"}
    assert site.asked[f"{SITE}/hidden"] == 1


def test_a_stop_lets_what_is_in_flight_end_and_starts_nothing(crawl: Crawl, site: ScriptedSite) -> None:
    site["/"] = page(*(f"/{number}" for number in range(50)))
    for number in range(50):
        site[f"/{number}"] = Answer(page(title=f"Number {number}").body, takes_s=5)
    found = crawl(stop_after=4)
    assert crawl.summary is not None
    assert not crawl.summary.finished
    assert list(found.values()).count("fetched") == site.asked.total() - 1 < 10


def test_a_resumed_crawl_tries_transient_failures_again(crawl: Crawl, site: ScriptedSite) -> None:
    site["/a"] = FetchError("timeout", "no byte")
    site["/b"] = Answer(status=403)
    assert crawl(retries=0)["/a"] == "failed timeout"
    site["/a"] = page("/c")
    assert crawl(retries=0) == {"/": "fetched", "/a": "fetched", "/b": "failed http_403", "/c": "fetched"}
    assert (site.asked[f"{SITE}/"], site.asked[f"{SITE}/b"]) == (1, 1)


def test_a_site_without_end_costs_what_the_limits_allow(crawl: Crawl, site: ScriptedSite) -> None:
    class Days(dict[str, Script]):
        """A calendar: every day links to the next two and says nothing of its own."""

        def get(self, url: str, default: Any = None) -> Any:
            if url.endswith("robots.txt"):
                return default
            day = int("0" + url.rpartition("/")[2])
            return page(f"/day/{day + 1}", f"/day/{day + 2}", title="Day")

    site.answers = Days()
    found = crawl(max_depth=10_000, max_pages=10_000, limits=CrawlLimits(repetitive_pages=20))
    assert list(found.values()).count("fetched") < 60
    assert set(found.values()) == {"fetched", "rejected repetitive"}


def _sitemap(*urls: str) -> Answer:
    locations = "".join(f"<url><loc>{url}</loc></url>" for url in urls)
    return Answer(f"<urlset>{locations}</urlset>".encode(), headers={"content-type": "text/xml"})


def _robots(*lines: str) -> Answer:
    return Answer("\n".join(lines).encode(), headers={"content-type": "text/plain"})


@pytest.mark.parametrize("place", ["https://site.example", "http://www.site.example", "https://files.example"])
def test_a_sitemap_that_robots_txt_names_at_another_host_or_scheme_is_read(
    crawl: Crawl, site: ScriptedSite, place: str
) -> None:
    site["/robots.txt"] = _robots(f"Sitemap: {place}/map.xml")
    site[f"{place}/map.xml"] = _sitemap(f"{SITE}/hidden", f"{place}/outside")
    site["/hidden"] = page(title="hidden")
    assert crawl(sitemap="auto")["/hidden"] == "fetched"
    assert site.asked[f"{place}/robots.txt"] == 1, "its own robots.txt decides about it"


def test_a_sitemap_at_another_host_obeys_that_hosts_robots_txt(crawl: Crawl, site: ScriptedSite) -> None:
    site["/robots.txt"] = _robots("Sitemap: http://www.site.example/map.xml")
    site["http://www.site.example/robots.txt"] = _robots("User-agent: *", "Disallow: /")
    crawl(sitemap="auto")
    assert site.asked["http://www.site.example/map.xml"] == 0
    assert crawl.summary is not None
    assert [problem.reason for problem in crawl.summary.problems] == ["robots"]


def test_sitemaps_are_looked_for_where_a_start_url_redirects_to(crawl: Crawl, site: ScriptedSite) -> None:
    site["/"] = redirect("https://www.site.example/")
    site["https://www.site.example/"] = page(title="home")
    site["https://www.site.example/sitemap.xml"] = _sitemap("https://www.site.example/hidden")
    site["https://www.site.example/hidden"] = page(title="hidden")
    assert crawl(sitemap="auto")["https://www.site.example/hidden"] == "fetched"


def test_links_out_of_scope_are_counted_by_host_siblings_first(crawl: Crawl, site: ScriptedSite) -> None:
    siblings = [f"http://www.site.example/{number}" for number in range(3)] + ["http://site.example:8080/"]
    others = [f"http://other.example/{number}" for number in range(5)]
    site["/a"], site["/b"] = page(*siblings, *others, title="a"), page(*siblings, title="b")
    crawl()
    assert crawl.summary is not None
    assert [(host.host, host.urls, host.is_sibling) for host in crawl.summary.outside_hosts] == [
        ("www.site.example", 3, True), ("site.example:8080", 1, True), ("other.example", 5, False),
    ]  # fmt: skip
    assert crawl.summary.out_of_scope == 9


def test_hosts_out_of_scope_beyond_a_limit_are_counted_together(crawl: Crawl, site: ScriptedSite) -> None:
    site["/"] = page(*(f"http://host{number}.example/" for number in range(1_000)))
    crawl()
    assert crawl.summary is not None
    assert (crawl.summary.outside_hosts[0].host, crawl.summary.outside_hosts[0].urls) == ("", 700)
    assert crawl.summary.out_of_scope == 1_000
