"""Which links of a page are followed."""

from __future__ import annotations

import time

from kb_pipeline.fetch.web.links import find_links, says_nofollow

URL = "https://example.com/docs/page.html?v=1"


def _links(html: str, content_type: str = "text/html; charset=utf-8") -> tuple[str, ...]:
    return find_links(html.encode(), content_type, URL).urls


def test_anchors_and_areas_in_order_and_once() -> None:
    html = """<a href="b.html#x">b</a><a href="b.html#y">b</a><map><area href="/c"></map>
        <iframe src="/frame"></iframe><a href="?v=2">v</a><a href="#top">top</a><a href="">empty</a>
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
    assert says_nofollow("otherbot: noindex, nofollow")


def test_other_encodings() -> None:
    latin = '<meta charset="iso-8859-1"><a href="/ü">u</a>'.encode("latin-1")
    assert find_links(latin, "text/html", URL).urls == ("https://example.com/%C3%BC",)
    wide = '<a href="/w">w</a>'.encode("utf-16")
    assert find_links(wide, "text/html", URL).urls == ("https://example.com/w",)
    assert _links('<a href="/a">a</a>', "text/html; charset=no-such-thing") == ("https://example.com/a",)


def test_invalid_links_are_counted() -> None:
    found = find_links(b'<a href="http://[bad">x</a><a href="http://u:p@example.com/">y</a>', "text/html", URL)
    assert found.urls == ()
    assert found.invalid == 2


def test_absurd_nesting_does_not_stall() -> None:
    started = time.monotonic()
    html = "<div>" * 100_000 + '<a href="/deep">x</a>' + "</div>" * 100_000
    assert _links(html) == ("https://example.com/deep",)
    assert time.monotonic() - started < 5
