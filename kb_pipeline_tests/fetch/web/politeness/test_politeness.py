"""Robots rules and delays, as the server sees them."""

from __future__ import annotations

from itertools import pairwise

from kb_pipeline.fetch.web.crawl.sitemap_loader import WELL_KNOWN
from kb_pipeline_tests.fetch.web.conftest import Crawler
from kb_pipeline_tests.fetch.web.site import Page, Site

TEXT = {"Content-Type": "text/plain"}
EPSILON_S = 0.01


def _gaps(site: Site) -> list[float]:
    times = sorted(hit.at for hit in site.hits)
    return [later - earlier for earlier, later in pairwise(times)]


def test_no_two_requests_are_closer_than_the_delay(site: Site, crawled: Crawler) -> None:
    site.link("/", "/a", "/b", "/c", "/missing")
    site.pages["/a"] = Page(b"<p>slow", hang_s=0.3)
    site.link("/b")
    site.redirect("/c", "/b")
    found = crawled(site.url + "/", delay_s=0.2, sitemap="auto")
    assert len(found.rows) == 5
    assert len(site.hits) == 6 + len(WELL_KNOWN)
    assert min(_gaps(site)) >= 0.2 - EPSILON_S


def test_sitemaps_are_found_and_pass_scope_and_robots(site: Site, crawled: Crawler) -> None:
    site.link("/")
    robots = f"User-agent: *\nDisallow: /private\nSitemap: {site.url}/index.xml"
    site.pages["/robots.txt"] = Page(robots.encode(), headers=TEXT)
    index = f"<sitemapindex><sitemap><loc>{site.url}/one.xml</loc></sitemap></sitemapindex>"
    site.pages["/index.xml"] = Page(index.encode(), headers={"Content-Type": "application/xml"})
    urls = "".join(
        f"<url><loc>{url}</loc></url>"
        for url in (f"{site.url}/a", f"{site.url}/private", "https://elsewhere.example/", "file:///etc/passwd")
    )
    site.pages["/one.xml"] = Page(f"<urlset>{urls}</urlset>".encode(), headers={"Content-Type": "text/xml"})
    site.link("/a")
    found = crawled(site.url + "/", sitemap="auto")
    assert found.outcome(site.url + "/a") == "fetched"
    assert found.outcome(site.url + "/private") == "rejected robots"
    assert len(found.rows) == 3
    assert found.summary.out_of_scope == 1
    assert site.count("/sitemap.xml") == 0, "robots.txt named another"


def test_a_sitemap_that_cannot_be_read_is_a_warning(site: Site, crawled: Crawler) -> None:
    site.link("/")
    site.pages["/bad.xml"] = Page(b"<html>", headers={"Content-Type": "text/html"})
    found = crawled(site.url + "/", sitemap=(site.url + "/bad.xml", site.url + "/none.xml"))
    assert found.outcome(site.url + "/") == "fetched"
    assert len(found.summary.problems) == 2
