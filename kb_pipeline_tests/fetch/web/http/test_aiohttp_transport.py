"""The refresh's own path: known pages over aiohttp, Scrapy only where something is new."""

from __future__ import annotations

import gzip
import hashlib
import os
import signal
import socket
import zlib
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import brotli
import pytest
from backports import zstd

from kb_pipeline.errors import ChildCrashed
from kb_pipeline.fetch.web.crawl.journal import JournalWriter, read_outcomes
from kb_pipeline.fetch.web.crawl.process import crawl
from kb_pipeline.host_scheduler import LocalHostScheduler
from kb_pipeline_tests.fetch.web.conftest import Crawler, child_of, files_at, known_file, rules_for
from kb_pipeline_tests.fetch.web.site import Page, Site, running_site

LIGHT, BOTH, SCRAPY = ("aiohttp",), ("aiohttp", "scrapy"), ("scrapy",)
PAST = "2026-01-02"
XML = {"Content-Type": "text/xml"}
HTML = b"<p>words</p>"
BOMB = b"x" * 10_000_000


def _sha256(site: Site, path: str) -> str:
    return hashlib.sha256(site.pages[path].body).hexdigest()  # type: ignore[union-attr]


def _remembered(folder: Path, site: Site, *paths: str, **columns: Any) -> Path:
    """Write a known file of pages as the site serves them now."""
    pages = ({"key": site.url + path, "sha256": _sha256(site, path), **columns} for path in paths)
    return known_file(folder / "known.parquet", *pages)


def _sitemap(site: Site, *entries: tuple[str, str | None]) -> None:
    lines = (
        f"<url><loc>{site.url}{path}</loc>{f'<lastmod>{lastmod}</lastmod>' if lastmod else ''}</url>"
        for path, lastmod in entries
    )
    site.pages["/sitemap.xml"] = Page(f"<urlset>{''.join(lines)}</urlset>".encode(), headers=XML)


def _encoded(body: bytes, encoding: str) -> Page:
    return Page(body, headers={"Content-Type": "text/html", "Content-Encoding": encoding})


# -- which engine


def test_a_first_build_does_not_load_aiohttp(site: Site, crawled: Crawler) -> None:
    site.link("/")
    assert crawled(site.url + "/").summary.engines == SCRAPY


def test_an_unchanged_site_costs_one_request_a_page_and_no_scrapy(site: Site, crawled: Crawler, tmp_path: Path) -> None:
    site.link("/", "/a", "/never-seen")
    site.link("/a", "/also-never-seen", headers={"Content-Type": "text/html", "ETag": '"e"', "Set-Cookie": "a=b"})
    found = crawled(site.url + "/", known=_remembered(tmp_path, site, "/", "/a"))
    assert found.summary.outcomes == {"unchanged": 2}
    assert found.summary.engines == LIGHT
    assert sorted(site.paths()) == ["/", "/a", "/robots.txt"]
    assert not any("Cookie" in hit.headers for hit in site.hits)
    assert {hit.headers["User-Agent"] for hit in site.hits} == {"kb-test/1.0 (+mailto:test@example.com)"}


def test_the_link_of_a_changed_page_is_discovered(site: Site, crawled: Crawler, tmp_path: Path) -> None:
    site.link("/")
    site.link("/a")
    known = _remembered(tmp_path, site, "/", "/a")
    site.link("/a", "/new")
    site.link("/new", "/newer")
    site.link("/newer", "/a")
    found = crawled(site.url + "/", known=known)
    assert found.outcome(site.url + "/a") == "fetched"
    assert found.outcome(site.url + "/newer") == "fetched"
    assert found.rows[site.url + "/newer"]["depth"] == 3
    assert found.summary.engines == BOTH
    assert set(Counter(site.paths()).values()) == {1}, "the second phase begins where the first ended"


def test_what_gave_no_page_before_is_nothing_new(site: Site, crawled: Crawler, tmp_path: Path) -> None:
    site.link("/")
    site.redirect("/moved", "/", 301)
    _sitemap(site, ("/moved", None), ("/image", None))
    site.pages["/image"] = Page(b"x", headers={"Content-Type": "image/png"})
    met = ({"key": site.url + path, "sha256": None} for path in ("/moved", "/image", "/not-linked-any-more"))
    known = known_file(tmp_path / "known.parquet", {"key": site.url + "/", "sha256": _sha256(site, "/")}, *met)
    found = crawled(site.url + "/", known=known, sitemap="auto")
    assert found.outcome(site.url + "/moved") == "redirected"
    assert found.outcome(site.url + "/image") == "rejected content_type"
    assert site.url + "/not-linked-any-more" not in found.rows
    assert found.summary.engines == LIGHT


# -- the same guarantees over both transports

OUTCOMES = {
    "/gzip": (_encoded(gzip.compress(HTML) + gzip.compress(HTML), "gzip"), "fetched"),
    "/deflate": (_encoded(zlib.compress(HTML), "deflate"), "fetched"),
    "/raw-deflate": (_encoded(zlib.compress(HTML, wbits=-15), "deflate"), "fetched"),
    "/br": (_encoded(brotli.compress(HTML), "br"), "fetched"),
    "/zstd": (_encoded(zstd.compress(HTML), "zstd"), "fetched"),
    "/twice": (_encoded(brotli.compress(gzip.compress(HTML)), "gzip, br"), "fetched"),
    "/odd-header": (Page(HTML, headers={"Content-Type": "text/html", "ETag": '"\xff\xe4"'}), "fetched"),
    "/wide-header": (Page(HTML, headers={"Content-Type": "text/html", "X-Wide": "w" * 12_000}), "fetched"),
    "/gzip-bomb": (_encoded(gzip.compress(BOMB), "gzip"), "rejected too_large"),
    "/br-bomb": (_encoded(brotli.compress(BOMB), "br"), "rejected too_large"),
    "/zstd-bomb": (_encoded(zstd.compress(BOMB), "zstd"), "rejected too_large"),
    "/deflate-bomb": (_encoded(zlib.compress(BOMB), "deflate"), "rejected too_large"),
    "/big": (Page(b"x" * 30_000), "rejected too_large"),
    "/not-gzip": (_encoded(HTML, "gzip"), "failed decoding"),
    "/half-gzip": (_encoded(gzip.compress(os.urandom(99))[:60], "gzip"), "failed decoding"),
    "/half-br": (_encoded(brotli.compress(os.urandom(99))[:60], "br"), "failed decoding"),
    "/unknown": (_encoded(b"\x1f\x9d" + bytes(range(64)) * 9, "compress"), "failed decoding"),
    "/no-encoding": (_encoded(HTML, "UTF-8, none, identity"), "fetched"),
    "/onion": (_encoded(HTML, ", ".join(["gzip"] * 50)), "failed decoding"),
    "/short": (Page(b"half", content_length=8), "failed truncated"),
    "/503": (Page(HTML, 503), "failed http_503"),
    "/403": (Page(HTML, 403), "failed http_403"),
    "/404": (Page(HTML, 404), "rejected not_found"),
    "/silent": (Page(HTML, hang_s=30), "failed timeout"),
    "/slow": (Page(b"y" * 1000, chunk_pause_s=0.2), "failed too_slow"),
    "/image": (Page(b"x" * 30_000, headers={"Content-Type": "image/png"}), "rejected content_type"),
    "/302": (Page(status=302, headers={"Location": "http://127.0.0.1:9/"}), "rejected redirect_out_of_scope"),
}


@pytest.mark.upgrade("scrapy")
@pytest.mark.parametrize("engine", ["aiohttp", "scrapy"])
def test_both_transports_give_the_same_reasons(site: Site, crawled: Crawler, tmp_path: Path, engine: str) -> None:
    site.link("/", *OUTCOMES)
    site.pages.update({path: page for path, (page, _) in OUTCOMES.items()})
    known = known_file(tmp_path / "known.parquet", *({"key": site.url + path} for path in OUTCOMES))
    found = crawled(
        site.url + "/",
        known=known if engine == "aiohttp" else None,
        max_body_bytes=20_000,
        retries=0,
        timeout_s=0.7,
        deadline_s=1.5,
    )
    assert found.summary.engines == (engine,)
    assert {path: found.outcome(site.url + path) for path in OUTCOMES} == {
        path: outcome for path, (_, outcome) in OUTCOMES.items()
    }
    assert found.rows[site.url + "/gzip"]["body"] == HTML * 2
    assert all(found.rows[site.url + path]["body"] == HTML for path in ("/br", "/zstd", "/twice", "/raw-deflate"))
    assert site.count("/404") == (2 if engine == "aiohttp" else 1), "the end of a known page is confirmed"


def test_a_server_that_is_gone_keeps_every_page(site: Site, crawled: Crawler, tmp_path: Path) -> None:
    site.link("/")
    site.link("/a")
    known = _remembered(tmp_path, site, "/", "/a")
    site.close()
    found = crawled(site.url + "/", known=known, retries=0)
    assert found.summary.outcomes == {"failed": 2}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_an_address_that_is_not_opened_gets_no_request(crawled: Crawler, tmp_path: Path, host: str) -> None:
    try:
        listener = socket.create_server(
            (host.strip("[]"), 0), family=socket.AF_INET6 if "[" in host else socket.AF_INET
        )
    except OSError:
        pytest.skip("no IPv6 loopback")
    with listener:
        listener.settimeout(0.1)
        url = f"http://{host}:{listener.getsockname()[1]}/"
        known = known_file(tmp_path / "known.parquet", {"key": url}, {"key": url + "a"})
        found = crawled(url, known=known, allowed_networks=(), retries=0)
        assert {found.outcome(key) for key in found.rows} == {"rejected blocked_address"}
        assert "KB_ALLOW_PRIVATE_NETWORKS" in found.rows[url]["message"]
        assert found.summary.engines == LIGHT
        with pytest.raises(TimeoutError):
            listener.accept()


def test_no_detour_of_a_known_page_leads_to_a_private_address(
    site: Site, crawled: Crawler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_site("127.0.0.2") as trap:
        monkeypatch.setenv("http_proxy", trap.url)
        site.redirect("/", trap.url + "/start")
        site.redirect("/page", trap.url + "/page")
        site.redirect("/robots-of-it", "/")
        known = known_file(tmp_path / "known.parquet", {"key": site.url + "/"}, {"key": site.url + "/page"})
        found = crawled(
            site.url + "/", known=known, allowed_networks=("127.0.0.1/32",), sitemap=(trap.url + "/sitemap.xml",)
        )
        assert found.outcome(trap.url + "/start") == "rejected blocked_address"
        assert trap.hits == []


# -- politeness


def test_the_delay_is_kept_from_the_first_phase_into_the_second(site: Site, crawled: Crawler, tmp_path: Path) -> None:
    site.link("/")
    site.link("/a")
    known = _remembered(tmp_path, site, "/", "/a")
    site.link("/a", "/new", "/newer")
    site.link("/new")
    site.link("/newer")
    found = crawled(site.url + "/", known=known, delay_s=0.3)
    assert found.summary.engines == BOTH
    arrivals = [hit.at for hit in site.hits]
    assert len(arrivals) == 5
    assert min(later - earlier for earlier, later in pairwise(arrivals)) >= 0.3 - 0.01


# -- interruption


def test_killed_while_asking_for_known_pages_then_resumed(site: Site, tmp_path: Path) -> None:
    paths = [f"/p{number}" for number in range(120)]
    for path in paths:
        site.pages[path] = Page(HTML, hang_s=0.5)
    known, journal = _remembered(tmp_path, site, *paths), tmp_path / "journal"

    def kill(done: int, total: int | None) -> None:
        if len(site.hits) > 40:
            os.kill(child_of(os.getpid()), signal.SIGKILL)

    with pytest.raises(ChildCrashed):
        crawl(rules_for(site.url + "/p0"), files_at(journal, known), kill, LocalHostScheduler())
    JournalWriter(journal).close()
    kept = set(read_outcomes(journal).column("key").to_pylist())
    asked = Counter(site.paths())
    assert 20 < len(kept) < len(paths)
    summary = crawl(
        rules_for(site.url + "/p0"), files_at(journal, known), lambda done, total: None, LocalHostScheduler()
    )
    assert summary.outcomes == {"unchanged": len(paths)}
    again = Counter(site.paths()) - asked
    assert not kept & {site.url + path for path in again}, "what was kept is not asked for again"
