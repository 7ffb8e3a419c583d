"""Addresses that nobody opened get no request at all, whatever leads there."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from kb_pipeline_tests.fetch.web.conftest import Crawler
from kb_pipeline_tests.fetch.web.site import Page, Site, running_site

OPEN = ("127.0.0.1/32",)


@pytest.fixture
def honeypot() -> Iterator[Site]:
    with running_site("127.0.0.2") as running:
        running.link("/")
        yield running


def test_a_private_start_url_is_blocked(site: Site, crawled: Crawler) -> None:
    hosts = ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]")
    site.link("/")
    starts = [site.url.replace("127.0.0.1", host) + "/" for host in hosts]
    found = crawled(*starts, allowed_networks=(), retries=0)
    assert len(found.rows) == 5 - 2, "numbers are 127.0.0.1, spelled otherwise"
    for row in found.rows.values():
        assert (row["outcome"], row["reason"]) == ("rejected", "blocked_address")
        assert "KB_ALLOW_PRIVATE_NETWORKS" in row["message"]
    assert site.hits == []


def test_no_detour_leads_to_a_private_address(site: Site, honeypot: Site, crawled: Crawler) -> None:
    trap = honeypot.url
    site.link("/", "/redirect", "/start-redirect", trap + "/linked")
    site.redirect("/redirect", trap + "/redirected")
    robots = f"User-agent: *\nSitemap: {trap}/robots-sitemap.xml\nSitemap: {site.url}/index.xml"
    site.pages["/robots.txt"] = Page(robots.encode(), headers={"Content-Type": "text/plain"})
    index = f"<sitemapindex><sitemap><loc>{trap}/nested.xml</loc></sitemap></sitemapindex>"
    site.pages["/index.xml"] = Page(index.encode(), headers={"Content-Type": "text/xml"})
    found = crawled(site.url + "/", allowed_networks=OPEN, sitemap="auto", retries=0)
    assert found.outcome(site.url + "/redirect") == "rejected redirect_out_of_scope"
    assert len(found.summary.problems) == 2
    assert honeypot.hits == []


def test_a_start_url_may_not_redirect_to_a_private_address(site: Site, honeypot: Site, crawled: Crawler) -> None:
    site.redirect("/", honeypot.url + "/")
    found = crawled(site.url + "/", allowed_networks=OPEN)
    assert found.outcome(honeypot.url + "/") == "rejected blocked_address"
    assert honeypot.hits == []


def test_robots_txt_may_not_redirect_to_a_private_address(site: Site, honeypot: Site, crawled: Crawler) -> None:
    site.redirect("/robots.txt", honeypot.url + "/robots.txt")
    site.link("/")
    found = crawled(site.url + "/", allowed_networks=OPEN)
    assert found.outcome(site.url + "/") == "rejected blocked_address"
    assert honeypot.hits == []


def test_a_proxy_of_the_environment_is_not_used(
    site: Site, honeypot: Site, crawled: Crawler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", honeypot.url)
    site.link("/")
    assert crawled(site.url + "/", allowed_networks=OPEN).outcome(site.url + "/") == "fetched"
    assert honeypot.hits == []


def test_an_ipv6_literal_is_judged(crawled: Crawler) -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 loopback")
    with listener:
        listener.settimeout(0.1)
        url = f"http://[::1]:{listener.getsockname()[1]}/"
        assert crawled(url, allowed_networks=()).outcome(url) == "rejected blocked_address"
        with pytest.raises(TimeoutError):
            listener.accept()
