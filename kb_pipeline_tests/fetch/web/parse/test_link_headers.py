"""Where the `Link` header of a response leads."""

from __future__ import annotations

import pytest

from kb_pipeline.fetch.web.parse.html_links import parse_page
from kb_pipeline.fetch.web.parse.link_headers import read_link_header

URL = "https://example.com/docs/page"


def test_relations_between_pages_are_links() -> None:
    value = (
        '<2>; rel="next", <https://example.com/0>;rel=prev , </c>; title="a, b; c" ; REL="canonical nofoo",'
        '</de>; rel="alternate"; hreflang="de", </s.css>; rel=preload; as=style, </up>; rel=up'
    )
    assert read_link_header(value).urls == ("2", "https://example.com/0", "/c", "/de", "/up")


def test_what_asks_not_to_be_followed_or_speaks_of_another_page_leads_nowhere() -> None:
    value = '</a>; rel="next nofollow", </b>; rel=next; anchor="/other", </c>; rel=alternate, </d>'
    assert read_link_header(value).urls == ()


def test_feeds_are_named_apart() -> None:
    found = read_link_header('</feed>; rel=alternate; type="application/atom+xml; charset=utf-8"')
    assert (found.urls, found.feeds) == ((), ("/feed",))


@pytest.mark.parametrize("value", ["", "<", "<>", "a, b", "</a", '</a>; rel="next', "</a>; rel", ";rel=next", "<<<>>>"])
def test_what_is_malformed_leads_nowhere(value: str) -> None:
    assert read_link_header(value).urls == ()


def test_hostile_headers_are_read_in_one_pass() -> None:
    assert read_link_header("<a>" + ";a" * 30_000).urls == ()
    assert read_link_header("<" * 30_000 + '<a>; rel="' + "\\" * 30_000).urls == ()
    assert len(read_link_header(",".join(f"</{number}>;rel=next" for number in range(5_000))).urls) == 5_000


def test_a_page_leads_to_what_its_header_names_unless_it_asks_for_nofollow() -> None:
    header = "<two>; rel=next, </feed>; rel=alternate; type=application/rss+xml"
    found = parse_page(b'<base href="/other/"><a href="x">x</a>', "text/html", URL, 100, header)
    assert found.urls == ("https://example.com/other/x", "https://example.com/docs/two")
    assert found.feeds == ("https://example.com/feed",)
    assert parse_page(b"<meta name=robots content=nofollow>", "text/html", URL, 100, header).urls == ()
    deep = b"<div>" * 30_000 + b'<a href="/deep">'
    assert len(parse_page(deep, "text/html", URL, 100, header).urls) == 2
