"""Addresses that nobody opened get no request at all, whatever leads there."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from kb_pipeline_tests.fetch.web.conftest import Crawler
from kb_pipeline_tests.fetch.web.site import Page, Site, running_site

pytestmark = pytest.mark.upgrade("scrapy")

OPEN = ("127.0.0.1/32",)
REDIRECTS = (301, 302, 303, 307, 308)


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


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what happened in a network with honeypots on private addresses; see namespace.py."""
    enter = ["unshare", "--net", "--mount", "--propagation", "private"]
    try:
        subprocess.run([*enter, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no rights to make a network namespace")
    folder = tmp_path_factory.mktemp("namespace")
    command = [*enter, sys.executable, "-m", "kb_pipeline_tests.fetch.web.namespace", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["hits_once_opened"], "the honeypots notice who comes"
    return found


def test_no_way_leads_to_a_honeypot(namespace: dict[str, Any]) -> None:
    assert namespace["hits"] == []
    refused = [url for url, outcome in namespace["led"].items() if outcome == "rejected blocked_address"]
    ways = ["/start", "/refreshed", "/canonical", "/named", "/iframe", *(f"/redirected-{n}" for n in REDIRECTS)]
    assert all(any(url.endswith(f"trap.site-test.com{way}") for url in refused) for way in ways)
    assert {"six", "mapped", "nat64"} <= {url.split("/")[2].partition(".")[0] for url in refused}
    assert namespace["led"]["http://www.site-test.com/shell"] == "fetched"
    assert namespace["asked"].get("www/to-trap", 0) >= 1 or not namespace["rendered"], "its scripts have run"


def test_a_name_that_turns_private_is_never_followed(namespace: dict[str, Any]) -> None:
    known = [outcome for url, outcome in namespace["rebound"].items() if url.endswith("/known")]
    new = [outcome for url, outcome in namespace["rebound"].items() if url.endswith("/new")]
    assert known == ["fetched"] * 40, "over http and https, while the name was public"
    assert new == ["rejected blocked_address"] * 40
    assert set(namespace["lookups"].values()) == {2}, "the second lookup gave the private address"
    assert namespace["hits"] == []


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
