"""Reading sitemap files."""

from __future__ import annotations

import gzip
from collections import Counter
from datetime import UTC, datetime

import pytest

from kb_pipeline.fetch.web.parse.sitemaps import (
    MAX_ENTRIES,
    SitemapEntry,
    TooManyEntries,
    UnreadableSitemap,
    is_past,
    read_sitemap,
)

XMLNS = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'


def test_urls_and_lastmod() -> None:
    body = f"""<?xml version="1.0"?><urlset {XMLNS}><url><loc> https://example.com/a </loc>
        <lastmod>2026-01-02</lastmod></url><url><loc>https://example.com/b</loc></url><url/></urlset>"""
    expected = [
        SitemapEntry("https://example.com/a", "2026-01-02", is_sitemap=False),
        SitemapEntry("https://example.com/b", None, is_sitemap=False),
    ]
    assert list(read_sitemap(body.encode())) == expected
    assert list(read_sitemap(gzip.compress(body.encode()))) == expected


def test_an_index_names_sitemaps() -> None:
    body = f"<sitemapindex {XMLNS}><sitemap><loc>https://example.com/1.xml</loc></sitemap></sitemapindex>"
    assert list(read_sitemap(body.encode())) == [SitemapEntry("https://example.com/1.xml", None, is_sitemap=True)]


def test_addresses_put_in_as_they_are_lead_where_they_say() -> None:
    body = f"""<urlset {XMLNS}><url><loc>https://example.com/a?b=1&c=2&amp;d=3&copy=4</loc></url>
        <url><loc><![CDATA[https://example.com/x?a=1&b=2]]></loc></url><url><loc>https://example.com/?&#38;z</loc></url>
        <url><loc>https://example.com/caf&eacute;</loc></url></urlset>"""
    assert [entry.url for entry in read_sitemap(body.encode())] == [
        "https://example.com/a?b=1&c=2&d=3&copy=4",
        "https://example.com/x?a=1&b=2",
        "https://example.com/?&z",
        "https://example.com/caf\u00e9",
    ]


def test_translations_of_a_prefix_that_nobody_declared_are_named_too() -> None:
    link = '<xhtml:link rel="alternate" hreflang="de" href="https://example.com/de?x=1&y=2"/>'
    body = f"<urlset {XMLNS}><url><loc>https://example.com/en</loc>{link}</url></urlset>"
    found = [entry.url for entry in read_sitemap(body.encode())]
    assert found == ["https://example.com/en", "https://example.com/de?x=1&y=2"]


@pytest.mark.timeout(20)
def test_a_file_of_openings_that_never_end_is_read_once() -> None:
    with pytest.raises(UnreadableSitemap):
        list(read_sitemap(b"<a>" + b"<![CDATA[&" * 300_000))


def test_plain_text() -> None:
    assert [entry.url for entry in read_sitemap(b"https://example.com/a\nhttps://example.com/b\n")] == [
        "https://example.com/a",
        "https://example.com/b",
    ]


def test_entities_are_not_resolved() -> None:
    body = b"""<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/hostname"><!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>
        <urlset><url><loc>https://example.com/&f;&b;</loc></url></urlset>"""
    assert all("aaaa" not in entry.url for entry in read_sitemap(body))


def test_a_broken_end_keeps_what_came_before() -> None:
    body = f"<urlset {XMLNS}><url><loc>https://example.com/a</loc></url><url><loc>https://ex".encode()
    assert [entry.url for entry in read_sitemap(body)][:1] == ["https://example.com/a"]


def test_entries_are_limited() -> None:
    body = b"<urlset>" + b"<url><loc>https://example.com/</loc></url>" * (MAX_ENTRIES + 5) + b"</urlset>"
    entries: list[SitemapEntry] = []
    with pytest.raises(TooManyEntries, match="50,000"):
        entries.extend(read_sitemap(body))
    assert len(entries) == MAX_ENTRIES


def test_rss_and_atom_are_read_as_sitemaps() -> None:
    rss = b"""<rss version="2.0"><channel><title>News</title><link>https://example.com/</link>
        <item><title>A</title><link> https://example.com/a </link>
        <pubDate>Fri, 02 Jan 2026 10:00:00 GMT</pubDate></item>
        <item><guid isPermaLink="true">https://example.com/b</guid></item><item><guid>not-a-url</guid></item>
        </channel></rss>"""
    assert [(entry.url, entry.lastmod) for entry in read_sitemap(rss)] == [
        ("https://example.com/a", "2026-01-02T10:00:00+00:00"),
        ("https://example.com/b", None),
    ]
    atom = b"""<feed xmlns="http://www.w3.org/2005/Atom"><link href="https://example.com/"/>
        <entry><link rel="edit" href="/edit"/><link rel="alternate" href="/c"/>
        <updated>2026-01-03T00:00:00Z</updated></entry>
        </feed>"""
    assert [(entry.url, entry.lastmod) for entry in read_sitemap(atom)] == [("/c", "2026-01-03T00:00:00Z")]


def test_translations_of_a_sitemaps_pages_are_pages_each_named_once() -> None:
    link = '<xhtml:link rel="alternate" hreflang="{0}" href="https://example.com/{0}"/>'
    links = "".join(map(link.format, "ab"))
    mobile = '<xhtml:link rel="alternate" media="only screen" href="https://example.com/m"/>'
    urls = "".join(f"<url><loc>https://example.com/{name}</loc>{links}{mobile}</url>" for name in "abc")
    body = f'<urlset {XMLNS} xmlns:xhtml="http://www.w3.org/1999/xhtml">{urls}</urlset>'
    found = Counter(entry.url.removeprefix("https://example.com/") for entry in read_sitemap(body.encode()))
    assert found == {"a": 2, "b": 2, "c": 1}


def test_a_feed_names_its_next_page_and_its_archive() -> None:
    atom = b"""<feed xmlns="http://www.w3.org/2005/Atom"><link rel="self" href="/feed"/>
        <link rel="next" href="/feed?page=2"/><link rel="prev-archive" href="/feed/2025"/>
        <entry><link href="/a"/><link rel="next" href="/no"/></entry></feed>"""
    assert {entry.url: entry.is_next for entry in read_sitemap(atom)} == {
        "/feed?page=2": True, "/feed/2025": True, "/a": False,
    }  # fmt: skip
    rss = b"""<rss xmlns:atom="http://www.w3.org/2005/Atom"><channel><atom:link rel="next" href="/feed?paged=2"/>
        <item><link>/b</link></item></channel></rss>"""
    assert {entry.url: entry.is_next for entry in read_sitemap(rss)} == {"/feed?paged=2": True, "/b": False}


NOW = datetime(2026, 1, 2, 13, tzinfo=UTC)
PAST = ["2025-12-31", "2026-01-01", "2026-01-02T11:58:00Z", "2026-01-02T12:58:00+01:00", "2025-12-31T23:00:00"]
OPEN = ["2026-01-02", "2026-01-02T12:59:30Z", "2026-01-02T11:00:00", "2999-01-01", "9999-12-31", "2025", "yesterday"]


def test_only_a_lastmod_whose_time_is_over_everywhere_is_settled() -> None:
    assert [lastmod for lastmod in PAST + OPEN if is_past(lastmod, NOW)] == PAST


@pytest.mark.parametrize("body", [b"<html><body>no</body></html>", b"{}", b"\x1f\x8bnope"])
def test_what_is_no_sitemap_is_an_error(body: bytes) -> None:
    with pytest.raises(UnreadableSitemap):
        list(read_sitemap(body))


def test_a_gzip_bomb_is_cut() -> None:
    bomb = gzip.compress(b"<urlset>" + b" " * 200_000_000)
    with pytest.raises(UnreadableSitemap):
        list(read_sitemap(bomb))
