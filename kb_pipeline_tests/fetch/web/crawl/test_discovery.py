"""What a crawl finds, and what it leaves out although it is there."""

from __future__ import annotations

import json
from pathlib import Path

from kb_pipeline.fetch.web.crawl.sitemap_loader import WELL_KNOWN
from kb_pipeline_tests.fetch.web.conftest import Crawled, Crawler, known_file
from kb_pipeline_tests.fetch.web.site import Hit, Page, Site

XML = {"Content-Type": "application/xml"}
HTML = "text/html"


def _urls(site: Site, *paths: str) -> bytes:
    return f"<urlset>{''.join(f'<url><loc>{site.url}{path}</loc></url>' for path in paths)}</urlset>".encode()


def _index(site: Site, *paths: str) -> bytes:
    entries = "".join(f"<sitemap><loc>{site.url}{path}</loc></sitemap>" for path in paths)
    return f"<sitemapindex>{entries}</sitemapindex>".encode()


def _outcomes(site: Site, found: Crawled) -> dict[str, str]:
    return {key.removeprefix(site.url): found.outcome(key) for key in found.rows}


# -- completeness


def test_a_sitemap_in_a_well_known_place_is_found_and_remembered(site: Site, crawled: Crawler, tmp_path: Path) -> None:
    site.link("/")
    site.link("/hidden")
    site.pages["/sitemap_index.xml"] = Page(_index(site, "/part.xml"), headers=XML)
    site.pages["/part.xml"] = Page(_urls(site, "/hidden"), headers=XML)
    found = crawled(site.url + "/", sitemap="auto")
    assert _outcomes(site, found) == {"/": "fetched", "/hidden": "fetched"}
    assert [site.count(path) for path in WELL_KNOWN] == [1, 1, 0, 0]
    crawled.forget()
    known = known_file(tmp_path / "known.parquet", {"key": site.url + "/"}, {"key": site.url + "/hidden"})
    crawled(site.url + "/", sitemap="auto", known=known)
    assert [site.count(path) for path in WELL_KNOWN] == [1, 2, 0, 0]


def test_without_a_sitemap_later_crawls_look_in_one_place_only(site: Site, crawled: Crawler) -> None:
    site.link("/")
    for _ in range(3):
        crawled(site.url + "/", sitemap="auto")
        crawled.forget()
    assert [site.count(path) for path in WELL_KNOWN] == [3, 1, 1, 1]


def test_a_feed_of_a_start_page_leads_to_its_entries(site: Site, crawled: Crawler, tmp_path: Path) -> None:
    site.pages["/"] = Page(b'<link rel=alternate type="application/rss+xml" href="/feed"><p>Home of the news')
    site.pages["/feed"] = Page(f"<rss><channel><item><link>{site.url}/post</link></item></channel></rss>".encode())
    site.link("/post")
    found = crawled(site.url + "/", sitemap="auto")
    assert _outcomes(site, found) == {"/": "fetched", "/post": "fetched"}
    crawled.forget()
    site.pages["/feed"] = Page(f"<rss><channel><item><link>{site.url}/new</link></item></channel></rss>".encode())
    site.link("/new")
    site.pages["/"] = Page(status=304)
    known = known_file(tmp_path / "known.parquet", {"key": site.url + "/", "etag": '"x"'})
    found = crawled(site.url + "/", sitemap="auto", known=known)
    assert found.outcome(site.url + "/new") == "fetched", "the feed is remembered although the start page is unchanged"


def _feed(site: Site, next_page: str, *paths: str) -> Page:
    entries = "".join(f'<entry><link href="{site.url}{path}"/></entry>' for path in paths)
    return Page(f'<feed><link rel="next" href="{next_page}"/>{entries}</feed>'.encode(), headers=XML)


def test_a_feed_is_read_page_by_page_until_it_says_nothing_new(site: Site, crawled: Crawler) -> None:
    site.pages["/"] = Page(b'<link rel=alternate type="application/atom+xml" href="/feed"><p>Home of the news')
    for path in ("/new", "/old", "/oldest"):
        site.link(path)
    site.pages["/feed"] = _feed(site, "/feed?page=2", "/new")
    site.pages["/feed?page=2"] = _feed(site, "/feed?page=3", "/old")
    site.pages["/feed?page=3"] = _feed(site, "/feed?page=4", "/old", "/oldest")
    site.pages["/feed?page=4"] = _feed(site, "/feed?page=5", "/oldest")
    site.pages["/feed?page=5"] = _feed(site, "/feed?page=6", "/never")
    found = crawled(site.url + "/", sitemap="auto")
    assert set(_outcomes(site, found)) == {"/", "/new", "/old", "/oldest"}
    assert [(problem.key, problem.reason) for problem in found.summary.problems] == [
        (site.url + "/feed?page=4", "sitemap_loop")
    ]


def test_the_pages_of_a_feed_that_never_ends_are_limited(site: Site, crawled: Crawler) -> None:
    site.pages["/"] = Page(b'<link rel=alternate type="application/atom+xml" href="/feed?page=0"><p>Home of the news')

    def endless(hit: Hit, _: int) -> Page:
        number = int(hit.path.partition("=")[2])
        return _feed(site, f"/feed?page={number + 1}", f"/post{number}")

    for number in range(150):
        site.pages[f"/feed?page={number}"] = endless
    found = crawled(site.url + "/", sitemap="auto")
    assert sum(site.count(f"/feed?page={number}") for number in range(150)) == 100
    assert [problem.reason for problem in found.summary.problems] == ["sitemap_too_large"]


def test_a_feed_that_goes_on_in_a_circle_is_a_problem(site: Site, crawled: Crawler) -> None:
    site.pages["/a.xml"], site.pages["/b.xml"] = _feed(site, "/b.xml", "/one"), _feed(site, "/a.xml", "/two")
    site.link("/")
    found = crawled(site.url + "/", sitemap=(site.url + "/a.xml",))
    assert [(problem.key, problem.reason) for problem in found.summary.problems] == [
        (site.url + "/b.xml", "sitemap_loop")
    ]
    assert site.count("/a.xml") == site.count("/b.xml") == 1


def test_options_headers_and_translations_of_a_sitemap_lead_to_pages(site: Site, crawled: Crawler) -> None:
    header = {"Content-Type": HTML, "Link": '</next>; rel="next"'}
    site.pages["/"] = Page(b'<p>Home<select><option value="/option">Option</select>', headers=header)
    alternate = f'<xhtml:link rel="alternate" hreflang="de" href="{site.url}/de"/>'
    named = (
        f'<urlset xmlns:xhtml="http://www.w3.org/1999/xhtml"><url><loc>{site.url}/en</loc>{alternate}</url></urlset>'
    )
    site.pages["/map.xml"] = Page(named.encode(), headers=XML)
    for path in ("/next", "/option", "/en", "/de"):
        site.link(path)
    found = crawled(site.url + "/", sitemap=(site.url + "/map.xml",))
    assert _outcomes(site, found) == dict.fromkeys(("/", "/next", "/option", "/en", "/de"), "fetched")


def test_refreshes_translations_frames_and_canonical_addresses_are_followed(site: Site, crawled: Crawler) -> None:
    site.pages["/"] = Page(
        b'<head><link rel=canonical href="/home"><link rel=alternate hreflang=de href="/de"></head>'
        b'<meta http-equiv=refresh content="0; url=/moved"><iframe src="/inner"></iframe>'
    )
    for path in ("/home", "/de", "/moved", "/inner"):
        site.link(path)
    assert set(_outcomes(site, crawled(site.url + "/"))) == {"/", "/home", "/de", "/moved", "/inner"}


def test_a_page_that_redirects_to_itself_with_a_session_is_kept_under_its_own_key(site: Site, crawled: Crawler) -> None:
    site.link("/", "/a")
    site.redirect("/a", "/a?PHPSESSID=0123456789abcdef")
    site.link("/a?PHPSESSID=0123456789abcdef", "/b?PHPSESSID=0123456789abcdef", "/b;jsessionid=77")
    site.link("/b")
    site.redirect("/loop", "/loop?utm_source=x")
    site.redirect("/loop?utm_source=x", "/loop")
    found = crawled(site.url + "/", site.url + "/loop")
    assert _outcomes(site, found) == {
        "/": "fetched", "/a": "fetched", "/b": "fetched", "/loop": "rejected redirect_loop",
    }  # fmt: skip
    assert found.rows[site.url + "/a"]["url"] == site.url + "/a?PHPSESSID=0123456789abcdef"


# -- consent


def test_noindex_is_obeyed_and_its_links_are_followed(site: Site, crawled: Crawler) -> None:
    site.link("/", "/header", "/page", "/other-bot", "/none")
    site.link("/header", "/from-header", headers={"Content-Type": HTML, "X-Robots-Tag": "noindex"})
    site.pages["/page"] = Page(b'<meta name=robots content="noindex, noarchive"><a href="/from-page">x</a>')
    site.link("/other-bot", headers={"Content-Type": HTML, "X-Robots-Tag": "otherbot: noindex"})
    site.pages["/none"] = Page(b'<meta name="ROBOTS" content="none"><a href="/from-none">x</a>')
    site.link("/from-header")
    site.link("/from-page")
    found = crawled(site.url + "/")
    assert _outcomes(site, found) == {
        "/": "fetched",
        "/header": "rejected noindex",
        "/page": "rejected noindex",
        "/none": "rejected noindex",
        "/other-bot": "fetched",
        "/from-header": "fetched",
        "/from-page": "fetched",
    }
    assert found.rows[site.url + "/page"]["body"] is None
    evidence = json.loads(found.rows[site.url + "/page"]["consent"])
    assert evidence == {"directives": ["noindex", "noarchive"], "meta": ["noindex, noarchive"]}


def test_a_page_that_turns_noindex_is_given_up_even_when_it_is_unchanged(
    site: Site, crawled: Crawler, tmp_path: Path
) -> None:
    site.link("/", "/a")
    site.pages["/a"] = Page(status=304, headers={"X-Robots-Tag": "noindex"})
    known = known_file(tmp_path / "known.parquet", {"key": site.url + "/a", "etag": '"a"'})
    assert crawled(site.url + "/", known=known).outcome(site.url + "/a") == "rejected noindex"


def test_what_a_site_says_of_use_by_ai_is_kept_with_each_page(site: Site, crawled: Crawler) -> None:
    robots = b"User-agent: *\nContent-Signal: search=yes, ai-train=no\nAllow: /"
    site.pages["/robots.txt"] = Page(robots, headers={"Content-Type": "text/plain"})
    site.pages["/"] = Page(b'<meta name=robots content="noai"><p>words')
    row = crawled(site.url + "/").rows[site.url + "/"]
    assert json.loads(row["consent"]) == {
        "directives": ["noai"], "robots.txt": ["search=yes, ai-train=no"], "meta": ["noai"],
    }  # fmt: skip


# -- problems


def test_sitemaps_that_are_too_much_or_wrong_are_problems_and_the_crawl_goes_on(site: Site, crawled: Crawler) -> None:
    site.link("/")
    site.link("/a")
    names = ("/self.xml", "/huge.xml", "/deep1.xml", "/html.xml", "/gone.xml", "/busy.xml")
    site.pages["/self.xml"] = Page(_index(site, "/self.xml"), headers=XML)
    site.pages["/huge.xml"] = Page(_urls(site, "/a", *["/b"] * 50_001), headers=XML)
    for depth in range(1, 5):
        site.pages[f"/deep{depth}.xml"] = Page(_index(site, f"/deep{depth + 1}.xml"), headers=XML)
    site.pages["/html.xml"] = Page(b"<html><p>no sitemap")
    site.pages["/busy.xml"] = Page(b"", 503)
    found = crawled(site.url + "/", sitemap=tuple(site.url + name for name in names), retries=0, max_pages=10_000)
    assert {problem.key.removeprefix(site.url): problem.reason for problem in found.summary.problems} == {
        "/self.xml": "sitemap_loop",
        "/huge.xml": "sitemap_too_large",
        "/deep4.xml": "sitemap_too_deep",
        "/html.xml": "sitemap_invalid",
        "/gone.xml": "not_found",
        "/busy.xml": "http_503",
    }
    assert found.outcome(site.url + "/a") == "fetched"


def test_links_beyond_the_limit_are_a_problem_of_their_page(site: Site, crawled: Crawler) -> None:
    site.link("/", *(f"/p{number}" for number in range(30)))

    def any_page(hit: Hit, _: int) -> Page:
        return Page(f"<p>page {hit.path}".encode())

    for number in range(30):
        site.pages[f"/p{number}"] = any_page
    found = crawled(site.url + "/", limits=crawled.limits(links_per_page=20))
    assert found.summary.outcomes == {"fetched": 21}
    (problem,) = found.summary.problems
    assert (problem.key, problem.reason) == (site.url + "/", "too_many_links")
    assert problem.message.startswith("10 links beyond 20")
