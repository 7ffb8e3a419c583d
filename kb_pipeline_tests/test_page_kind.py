"""What a body is to be read as: by its Content-Type, by its name, by how it begins."""

from __future__ import annotations

import pytest

from kb_pipeline.media_types import media_type, parameters
from kb_pipeline.page_kind import kind_of, may_be_page
from kb_pipeline.xhtml import as_html
from kb_pipeline_tests.clean.pages import document

XHTML = b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.1//EN" "x.dtd">\n<html xmlns="http://www.w3.org/1999/xhtml">'


@pytest.mark.parametrize(
    ("header", "media", "charsets"),
    [
        ('Text/HTML; Charset="utf-8"; x=1', "text/html", ["utf-8"]),
        ("text/html, text/html; charset=koi8-r", "text/html", ["koi8-r"]),
        ("charset=utf-8; text/html", "text/html", ["utf-8"]),
        ("text/html charset=utf-8", "text/html", ["utf-8"]),
        ("text/html;;charset='utf-8'", "text/html", ["utf-8"]),
        ('"text/html"', "text/html", []),
        ('application/xhtml+xml; profile="http://www.w3.org/x, y/z"', "application/xhtml+xml", []),
        ("*/*, text/plain", "text/plain", []),
        ("html", "", []),
        (";", "", []),
    ],
)
def test_odd_headers_are_read(header: str, media: str, charsets: list[str]) -> None:
    assert media_type(header) == media
    assert parameters(header, "charset") == charsets


@pytest.mark.parametrize(
    ("content_type", "url", "body", "kind"),
    [
        ("", "/x", b"<!--" + b"licence " * 300 + b"--> <!DOCTYPE html>", "html"),
        ("html", "/x", b"\xef\xbb\xbf  <HTML>", "html"),
        ("", "/x", "<!doctype html>".encode("utf-16"), "html"),
        ("", "/x", b"<p>fragment", "html"),
        ("", "/x", b"<placeholder> is what you type", "text"),
        ("application/octet-stream", "/README.md", b"<p align=center>Logo</p>\n\n# Ferry", "markdown"),
        ("application/octet-stream", "/README.md", b"<!doctype html><title>Sign in</title>", "html"),
        ("binary/octet-stream", "/notes.txt", b"Harbour rules", "text"),
        ("application/octet-stream", "/x", b"\x7fELF" + bytes(500), None),
        ("", "/x", b"%PDF-1.7 ...", None),
        ("", "/feed", b"<?xml version='1.0'?><rss/>", None),
        ("", "/x", b"", None),
        ("", "/x", XHTML, "xhtml"),
        ("text/xml", "/x", XHTML, "xhtml"),
        ("application/xml", "/sitemap.xml", b"<?xml version='1.0'?><urlset/>", None),
        ("application/xhtml+xml", "/x", b"", "xhtml"),
        ("text/plain", "/x.html", b"<!doctype html>", "text"),
        ("image/png", "/x.md", b"text", None),
    ],
)
def test_a_body_is_judged_by_type_name_and_beginning(
    content_type: str, url: str, body: bytes, kind: str | None
) -> None:
    assert kind_of(content_type, f"https://site.test{url}", body) == kind


def test_a_download_is_fetched_only_if_it_is_named_like_a_text() -> None:
    octets = "application/octet-stream"
    assert all(
        may_be_page(octets, f"https://site.test/{name}") for name in ("a.md", "LICENSE", "v1.2", "x.TXT?y=z.zip")
    )
    assert not any(may_be_page(octets, f"https://site.test/{name}") for name in ("a.zip", "setup.exe", "x.tar.gz"))
    assert may_be_page("text/x-markdown", "https://site.test/a.zip")
    assert not may_be_page("application/pdf", "https://site.test/a.md")


def test_xhtml_keeps_what_self_closed_tags_would_swallow() -> None:
    page = XHTML.decode() + (
        "<head><title/><script src='a.js'/></head><body><div id='x'/><p><a name='t'/>High&nbsp;water &amp; noon</p>"
        "<p><![CDATA[a < b && c]]></p><textarea/><p>end</p></body></html>"
    )
    found = document(page, "application/xhtml+xml")
    assert "High water & noon" in found.markdown.replace("\xa0", " ").replace("\\", "")
    assert "a < b && c" in found.markdown.replace("\\", "")
    assert "end" in found.markdown


def test_xhtml_that_is_not_well_formed_is_read_as_html() -> None:
    assert "Ferry" in document("<html><p>Ferry<br><b>bold</p>", "application/xhtml+xml").markdown


@pytest.mark.parametrize(
    "subset",
    [
        '<!ENTITY a "b"><!ENTITY c "&a;&a;&a;">',
        '<!ENTITY x SYSTEM "file:///etc/passwd">',
        "<!ENTITY % d SYSTEM 'http://127.0.0.1:9/'> %d;",
    ],
)
def test_entities_of_a_page_are_never_resolved(subset: str) -> None:
    page = f"<!DOCTYPE html [{subset}]><html><body><p>Ferry &x; &c;</p></body></html>"
    assert "root:" not in as_html(page)
    assert "Ferry" in document(page, "application/xhtml+xml").markdown
