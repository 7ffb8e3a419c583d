"""What becomes of pages: charsets, metadata, main content, reasons, hostile input."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kb_pipeline.clean.html.document import read_html
from kb_pipeline.clean.rules import CleaningRules
from kb_pipeline.model import Document
from kb_pipeline_tests.clean.pages import document, markdown, raw, rejection

ARTICLE = " ".join(
    f"The {n}th paragraph explains how the harbour was dredged, widened and lit again." for n in range(30)
)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"\xef\xbb\xbf<p>caf\xc3\xa9", "text/html; charset=latin-1"),
        ("<p>café".encode("utf-16"), "text/html"),
        ("<html><p>café in plain letters".encode("utf-16-le"), "text/html"),
        ("<p>café".encode("cp1252"), "text/html; charset=windows-1252"),
        ("<meta charset=iso-8859-1><p>café".encode("latin-1"), "text/html"),
        ("<p>café".encode("cp1252"), "text/html"),
        ("<p>café".encode("latin-1"), "text/html; charset=utf-8"),
        ("<meta charset=latin-1><p>café".encode(), "text/html"),
        ("<p>café".encode(), "text/html; charset=hex"),
    ],
)
def test_body_is_read_in_the_charset_it_is_really_in(body: bytes, content_type: str) -> None:
    assert "café" in document(body, content_type).markdown


def test_asian_charsets_are_read() -> None:
    assert "日本語" in document("<meta charset=shift_jis><p>日本語のテキスト".encode("shift_jis")).markdown


def test_nuls_and_surrogates_do_not_reach_the_document() -> None:
    text = document(b"<p>one\x00 two \xed\xa0\x80 &#xD800; three</p>").markdown
    assert "\x00" not in text
    assert text.encode("utf-8")
    assert "three" in text


def test_title_is_the_documents_own_before_any_other() -> None:
    page = "<head>{}</head><body><h1>Heading</h1><p>text</p></body>"
    own = page.format("<title> A\n page | Site </title><meta property='og:title' content='Other'>")
    assert document(own).title == "A page | Site"
    assert document(page.format("<meta property='og:title' content='Other'>")).title == "Other"
    assert document(page.format("")).title == "Heading"
    assert document("<p>text</p>").title == "page.html"


def test_canonical_url_is_absolute_and_a_web_address() -> None:
    assert document("<link rel=canonical href=/a><p>x").canonical_url == "https://site.test/a"
    assert document("<link rel=canonical href='javascript:x'><p>x").canonical_url is None
    assert document("<p>x").canonical_url is None


def test_dates_are_those_the_page_states() -> None:
    found = document(
        """<meta property="article:published_time" content="2024-05-06T07:08:09Z">
        <script type="application/ld+json">{"@graph": [{"dateModified": "2025-01-02"}]}</script><p>Since 1999-01-01."""
    )
    assert (found.published, found.modified) == ("2024-05-06", "2025-01-02")
    assert document("<p>Copyright 2020-01-01").published is None


def test_navigation_header_and_footer_are_left_out() -> None:
    text = markdown(
        f"""<header>Site name</header><nav><a href=/>Home</a></nav><div class="sidebar"><a href=/x>Other</a></div>
        <main><h1>Harbour</h1><p>{ARTICLE}</p></main><footer>Imprint</footer>"""
    )
    assert text.startswith("# Harbour\n\nThe 0th")
    assert not any(word in text for word in ("Site name", "Home", "Other", "Imprint"))


def test_article_in_an_unmarked_page_is_found_without_teasers() -> None:
    teasers = "".join(f"<div><a href=/{n}>Ten things to buy before number {n} is gone</a></div>" for n in range(20))
    paragraphs = "".join(f"<p>{ARTICLE}</p>" for _ in range(3))
    text = markdown(f"<div>{teasers}</div><div><h1>Harbour</h1>{paragraphs}<pre>x = 1\n</pre><p>{ARTICLE}</p></div>")
    assert "Ten things" not in text
    assert "```\nx = 1\n```" in text
    assert text.count("29th") == 4


def test_short_page_keeps_all_of_its_text() -> None:
    assert markdown("<h1>Hours</h1><p>Open from 9 to 5.</p><p>Closed on Sundays.</p>") == (
        "# Hours\n\nOpen from 9 to 5.\n\nClosed on Sundays.\n"
    )


def test_section_named_like_boilerplate_is_kept() -> None:
    page = f"<main><h2 id=navigation>Navigation</h2><section id=footer><p>{ARTICLE}</p></section></main>"
    assert "## Navigation" in markdown(page)
    assert "29th" in markdown(page)


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        ("<meta name=robots content='NOINDEX,follow'><p>text", "text/html", "noindex"),
        ("<script src=a.js></script><div id=root></div>", "text/html", "needs_javascript"),
        (
            "<noscript>Please enable JavaScript</noscript><div id=app>Loading</div><script></script>",
            "text/html",
            "needs_javascript",
        ),
        ("", "text/html", "no_text"),
        ("<p> &nbsp; </p>", "text/html", "no_text"),
        ("%PDF-1.7", "application/pdf", "content_type"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9, "text/html", "undecodable"),
        (b"\x00\x01\x02\x03" * 99, "", "undecodable"),
    ],
)
def test_page_without_text_is_rejected_with_its_reason(body: str | bytes, content_type: str, reason: str) -> None:
    assert rejection(body, content_type).reason == reason
    assert not rejection(body, content_type).failed


def test_a_short_page_that_wants_scripts_for_its_search_only_is_read() -> None:
    body = "<script src=search.js></script><noscript>JavaScript is disabled on your browser.</noscript>"
    assert "No usage" in markdown(f"{body}<main><h1>Uses of Class Fig</h1><p>No usage of Fig</p></main>")


def test_page_rendered_on_the_server_is_not_taken_for_a_shell() -> None:
    assert "harbour" in markdown(
        f"<script></script><noscript>Enable JavaScript</noscript><div id=root><p>{ARTICLE}</p></div>"
    )


def test_untyped_body_is_sniffed() -> None:
    assert document("<!DOCTYPE html><p>one <b>two</b>", "").markdown == "one **two**\n"
    assert document("one <b>two</b>", "application/octet-stream").markdown == "one <b>two</b>"


def test_code_of_a_markdown_file_is_kept_as_it_is() -> None:
    text = "# Setup #\n\n```sh\nmake  *\n```\n"
    found = document(text, "text/markdown; charset=utf-8")
    assert (found.markdown, found.title) == (text.replace("Setup #", "Setup"), "Setup")


def test_external_entities_are_never_resolved() -> None:
    body = """<?xml version="1.0"?><!DOCTYPE html [<!ENTITY x SYSTEM "file:///etc/passwd"><!ENTITY a "aaaa">
    <!ENTITY b "&a;&a;&a;">]><html><body><p>before &x; &b; after</p></body></html>"""
    text = markdown(body)
    assert "root:" not in text
    assert "aaaa" not in text
    assert "after" in text


@pytest.mark.parametrize("tag", ["div", "b", "blockquote", "ul><li", "table><tr><td"])
def test_absurd_nesting_loses_no_text(tag: str) -> None:
    text = markdown(f"<body><p>before</p>{f'<{tag}>' * 20_000}deep words<p>after</p>")
    assert "before" in text
    assert "deep words" in text
    assert "after" in text


@pytest.mark.parametrize(
    "body",
    [
        "<p>" + "word " * 1_000_000,
        "<p>text</p>" + "<" * 1_000_000,
        "<p>text " + "&" * 1_000_000,
        "<p>text " + "*_`[" * 200_000,
        "<p>text" + " \n" * 1_000_000,
        f"<p class='{'y ' * 500_000}' title='{'x' * 5_000_000}'>text</p>",
        "<p>some text to read</p>" + "<script>x</script>" * 50_000,
        "<p>text</p><table>"
        + "<tr>"
        + "<td colspan=1000 rowspan=65534>x" * 300
        + "<tr><td>a<td>b" * 2_000
        + "</table>",
        "<p>text</p>" + "<!--" * 200_000,
    ],
    ids=["long text", "brackets", "ampersands", "markup", "spaces", "attributes", "scripts", "table", "comments"],
)
def test_hostile_page_is_read_in_bounded_time(body: str) -> None:
    result = read_html(raw(body), CleaningRules(timeout_s=20))
    assert isinstance(result, Document) or result.reason == "no_text"


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(["text/html", "", "text/html; charset=utf-16", "text/plain"]))
def test_any_bytes_give_a_document_or_a_reason(body: bytes, content_type: str) -> None:
    result = read_html(raw(b"<p>x" + body, content_type), CleaningRules())
    assert isinstance(result, Document) or result.reason
    if isinstance(result, Document):
        assert result.markdown.encode("utf-8")
