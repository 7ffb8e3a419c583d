"""Reading sitemap files."""

from __future__ import annotations

import gzip

import pytest

from kb_pipeline.fetch.web.sitemaps import MAX_ENTRIES, SitemapEntry, UnreadableSitemap, read_sitemap

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
    assert sum(1 for _ in read_sitemap(body)) == MAX_ENTRIES


@pytest.mark.parametrize("body", [b"<html><body>no</body></html>", b"{}", b"\x1f\x8bnope"])
def test_what_is_no_sitemap_is_an_error(body: bytes) -> None:
    with pytest.raises(UnreadableSitemap):
        list(read_sitemap(body))


def test_a_gzip_bomb_is_cut() -> None:
    bomb = gzip.compress(b"<urlset>" + b" " * 200_000_000)
    with pytest.raises(UnreadableSitemap):
        list(read_sitemap(bomb))
