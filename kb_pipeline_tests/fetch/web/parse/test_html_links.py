"""What a page says to a crawler: where it leads, what it shows."""

from __future__ import annotations

import time

import pytest

from kb_pipeline.fetch.web.parse.html_links import ParsedPage, parse_page

URL = "https://example.com/docs/page.html?v=1"


def _links(html: str, content_type: str = "text/html; charset=utf-8") -> tuple[str, ...]:
    return _read(html, content_type).urls


def _read(html: str | bytes, content_type: str = "text/html", max_links: int = 100) -> ParsedPage:
    return parse_page(html.encode() if isinstance(html, str) else html, content_type, URL, max_links)


def test_anchors_and_areas_in_order_and_once() -> None:
    html = """<a href="b.html#x">b</a><a href="b.html#y">b</a><map><area href="/c"></map>
        <a href="?v=2">v</a><a href="#top">top</a><a href="">empty</a>
        <a href="mailto:x@example.com">m</a><a href="JavaScript:void(0)">j</a>"""
    assert _links(html) == (
        "https://example.com/docs/b.html",
        "https://example.com/c",
        "https://example.com/docs/page.html?v=2",
    )


def test_base_href_is_honoured() -> None:
    assert _links('<base href="/other/"><a href="x">x</a>') == ("https://example.com/other/x",)
    assert _links('<base href="javascript:x"><a href="x">x</a>') == ("https://example.com/docs/x",)


def test_nofollow_of_a_link_and_of_a_page() -> None:
    assert _links('<a rel="noopener NoFollow" href="/a">a</a><a href="/b">b</a>') == ("https://example.com/b",)
    assert _links('<meta name="Robots" content="noindex, NOFOLLOW"><a href="/a">a</a>') == ()
    assert _links('<meta name="robots" content="none"><a href="/a">a</a>') == ()
    assert _links('<meta name="robots" content="noindex"><a href="/a">a</a>') == ("https://example.com/a",)


def test_what_else_leads_somewhere() -> None:
    html = """<head><link rel=canonical href="/canonical"><link rel=next href=2>
        <link rel="alternate" hreflang=de href="/de/">
        <link rel=alternate type=application/rss+xml href=/feed><link rel=stylesheet href=/css>
        <meta http-equiv=Refresh content="5; URL='/moved'"><meta http-equiv=refresh content=3></head>
        <frameset><frame src="/frame"></frameset>"""
    found = _read(html)
    assert set(found.urls) == {
        f"https://example.com/{path}" for path in ("canonical", "de/", "docs/2", "moved", "frame")
    }
    assert found.feeds == ("https://example.com/feed",)
    assert _links('<iframe src="/inner"></iframe><iframe src="about:blank"></iframe>') == ("https://example.com/inner",)


def test_links_beyond_the_limit_are_counted() -> None:
    found = _read("".join(f'<a href="/{number}">x</a>' for number in range(150)))
    assert (len(found.urls), found.over_limit) == (100, 50)


def test_the_text_that_a_page_shows() -> None:
    found = _read("<body><script>no()</script><style>no</style><p>One <b>two</b></p><noscript>no</noscript><p>three")
    assert found.text.split() == ["One", "two", "three"]


def test_links_and_text_in_a_declarative_shadow_root_are_read() -> None:
    page = '<x-a><template shadowrootmode="open"><a href="/in">In</a></template></x-a><a href="/out">Out</a>'
    assert _links(page) == ("https://example.com/in", "https://example.com/out")
    assert _read(page).text.split() == ["In", "Out"]
    assert _links(page.replace("shadowrootmode", "id")) == ("https://example.com/out",)


@pytest.mark.parametrize(
    ("html", "is_shell"),
    [
        ('<div id="root"></div><script src="/app.js"></script>', True),
        ('<div id="app"><p>Loading</p></div><script></script>', True),
        ("<body><noscript>Please enable JavaScript.</noscript><script></script></body>", True),
        ("<body><app-root></app-root><script></script><footer>Imprint</footer></body>", True),
        ("<body>Loading…<script>fetch('/data')</script></body>", True),
        ("<body><p>A short page, but with a text of its own.</p><script>analytics()</script></body>", False),
        ("<body></body>", False),
        (f'<div id="root"></div><p>{"word " * 60}</p><script></script>', False),
    ],
)
def test_which_pages_are_shells(html: str, is_shell: bool) -> None:
    assert _read(html).is_shell is is_shell


def test_other_encodings() -> None:
    latin = '<meta charset="iso-8859-1"><a href="/ü">u</a>'.encode("latin-1")
    assert _read(latin).urls == ("https://example.com/%C3%BC",)
    wide = '<a href="/w">w</a>'.encode("utf-16")
    assert _read(wide).urls == ("https://example.com/w",)
    assert _links('<a href="/a">a</a>', "text/html; charset=no-such-thing") == ("https://example.com/a",)


def test_invalid_links_are_counted() -> None:
    found = _read('<a href="http://[bad">x</a><a href="http://u:p@example.com/">y</a>')
    assert found.urls == ()
    assert found.invalid == 2


def test_absurd_nesting_does_not_stall() -> None:
    started = time.monotonic()
    html = "<div>" * 100_000 + '<a href="/deep">x</a>' + "</div>" * 100_000
    assert _links(html) == ("https://example.com/deep",)
    assert _links("<meta content='noindex, nofollow' name=robots>" + html) == ()
    assert time.monotonic() - started < 5
