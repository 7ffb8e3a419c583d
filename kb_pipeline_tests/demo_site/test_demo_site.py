"""The sample site holds what the demo promises, and its server speaks proper HTTP."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping
from functools import cache
from html.parser import HTMLParser
from http.client import HTTPConnection, HTTPResponse
from urllib.parse import urljoin, urlsplit

import pytest

from kb_pipeline.demo_site.server import (
    DEMO_PORT,
    PRIVATE_PHRASE,
    QUESTIONS,
    REDIRECTS,
    Question,
    SiteFile,
    demo_spec,
    load_site,
    serve_demo_site,
)
from kb_pipeline.errors import UsageError
from kb_pipeline.spec.kb_file import parse_spec
from kb_pipeline.spec.sources import WebSource

DEAD_LINK = "/products/otter-200.html"
DUPLICATE = "/print/mast.html"
NEEDS_JAVASCRIPT = "/live-map.html"


class Page(HTMLParser):
    """What a page says about itself, its links and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.language = self.canonical = self.title = ""
        self.links: set[str] = set()
        self.tags: set[str] = set()
        self.code_languages: set[str] = set()
        self._text: list[str] = []
        self._open = ""
        self.feed(html)
        self.text = re.sub(r"\s+", " ", "".join(self._text))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        self._open = tag
        if tag == "html":
            self.language = values.get("lang", "")
        if tag == "link" and values.get("rel") == "canonical":
            self.canonical = values["href"]
        elif tag in {"a", "link", "script", "img"}:
            self.links |= {values[name] for name in ("href", "src") if name in values}
        if tag == "code" and "class" in values:
            self.code_languages.add(values["class"])

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "title":
            self.title += data
        elif self._open != "script":
            self._text.append(data)


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with serve_demo_site(port=0) as url:
        yield url


@cache
def site() -> dict[str, SiteFile]:
    return load_site("http://127.0.0.1:1")


@cache
def pages() -> dict[str, Page]:
    return {path: Page(f.body.decode()) for path, f in site().items() if f.content_type.startswith("text/html")}


def public_pages() -> dict[str, Page]:
    return {path: page for path, page in pages().items() if not path.startswith("/private/")}


def get(
    base_url: str, path: str, headers: Mapping[str, str] | None = None, method: str = "GET"
) -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection(urlsplit(base_url).netloc, timeout=10)
    try:
        connection.request(method, path, headers=dict(headers or {}))
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def internal_links(path: str, page: Page) -> set[str]:
    targets = {urlsplit(urljoin(f"http://site{path}", link)) for link in page.links}
    return {target.path for target in targets if target.netloc == "site"}


def test_site_has_pages_in_five_languages() -> None:
    count: dict[str, int] = {}
    for page in public_pages().values():
        count[page.language] = count.get(page.language, 0) + 1
    assert set(count) == {"en", "de", "fr", "es", "ja"}
    assert len(public_pages()) >= 38
    assert min(count.values()) >= 5


def test_site_is_small_enough_to_ship() -> None:
    assert sum(len(file.body) for file in site().values()) < 400_000


def test_every_internal_link_resolves_except_the_deliberate_one() -> None:
    known = site().keys() | REDIRECTS.keys()
    dead = {link for path, page in pages().items() for link in internal_links(path, page) if link not in known}
    assert dead == {DEAD_LINK}


def test_every_public_page_is_linked() -> None:
    linked = {link for path, page in pages().items() for link in internal_links(path, page)}
    assert linked >= pages().keys()
    assert linked >= {"/old-manual.html", "/downloads/skua-2-datasheet.pdf", "/img/skua-2.svg"}


@pytest.mark.parametrize("path", sorted(public_pages()))
def test_page_is_well_formed(path: str) -> None:
    page = pages()[path]
    assert page.title.strip()
    assert page.canonical == ("" if path == DUPLICATE else path)
    if path != NEEDS_JAVASCRIPT:
        assert {"h1", "h2", "h3"} <= page.tags or path == "/"
        length, least = (len(page.text), 500) if page.language == "ja" else (len(page.text.split()), 250)
        assert length >= least


def test_markup_varies_and_holds_code_and_tables() -> None:
    bodies = [page.tags for page in public_pages().values()]
    assert any("main" in tags for tags in bodies)
    assert any("main" not in tags and "article" not in tags for tags in bodies)
    assert sum("table" in tags for tags in bodies) > 20
    languages = set().union(*(page.code_languages for page in pages().values()))
    assert {"language-python", "language-bash", "language-json", "language-yaml"} <= languages


def test_print_version_repeats_the_page_word_for_word() -> None:
    print_text = pages()[DUPLICATE].text.strip()
    assert print_text in pages()["/install/mast.html"].text


def test_page_that_needs_javascript_is_empty_without_it() -> None:
    page = pages()[NEEDS_JAVASCRIPT]
    assert "Fredriksten" not in page.text
    assert b"Fredriksten" in site()["/live-map.js"].body


def test_private_phrase_stands_only_on_private_pages() -> None:
    holders = {path for path, file in site().items() if PRIVATE_PHRASE.encode() in file.body}
    assert len(holders) == 2
    assert holders == pages().keys() - public_pages().keys()


def test_sitemap_lists_the_public_pages_without_the_duplicate(base_url: str) -> None:
    response, body = get(base_url, "/sitemap.xml")
    locations = re.findall(r"<loc>(.*?)</loc>", body.decode())
    assert set(locations) == {base_url + path for path in public_pages() if path != DUPLICATE}
    assert len(set(locations)) == len(locations) == body.count(b"<lastmod>2026-03-02</lastmod>")
    assert (response.getheader("Content-Type") or "").startswith("application/xml")


def test_robots_forbids_private_and_names_the_sitemap(base_url: str) -> None:
    response, body = get(base_url, "/robots.txt")
    assert response.status == 200
    assert b"Disallow: /private/\n" in body
    assert f"Sitemap: {base_url}/sitemap.xml\n".encode() in body


@pytest.mark.parametrize(("path", "kind"), [
    ("/", "text/html; charset=utf-8"),
    ("/ja/support.html?from=menu", "text/html; charset=utf-8"),
    ("/style.css", "text/css; charset=utf-8"),
    ("/live-map.js", "text/javascript; charset=utf-8"),
    ("/img/skua-2.svg", "image/svg+xml"),
    ("/downloads/skua-2-datasheet.pdf", "application/pdf"),
])  # fmt: skip
def test_files_come_with_their_content_type(base_url: str, path: str, kind: str) -> None:
    response, body = get(base_url, path)
    assert (response.status, response.getheader("Content-Type")) == (200, kind)
    assert body == site()[path.partition("?")[0]].body


def test_head_sends_the_length_and_no_body(base_url: str) -> None:
    response, body = get(base_url, "/faq.html", method="HEAD")
    assert response.status == 200
    assert response.getheader("Content-Length") == str(len(site()["/faq.html"].body))
    assert body == b""


@pytest.mark.parametrize(("old", "new"), REDIRECTS.items())
def test_moved_page_is_redirected_for_good(base_url: str, old: str, new: str) -> None:
    response, _ = get(base_url, old)
    assert (response.status, response.getheader("Location")) == (301, new)
    assert new in pages()


def test_unchanged_page_is_answered_304_without_body(base_url: str) -> None:
    first, _ = get(base_url, "/faq.html")
    etag = first.getheader("ETag") or ""
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again, body = get(base_url, "/faq.html", {"If-None-Match": known})
        assert (again.status, body, again.getheader("ETag")) == (304, b"", etag)
    assert get(base_url, "/faq.html", {"If-None-Match": '"other"'})[0].status == 200


def test_validators_are_the_same_in_every_run(base_url: str) -> None:
    with serve_demo_site(port=0) as other_url:
        ours, theirs = get(base_url, "/faq.html")[0], get(other_url, "/faq.html")[0]
    assert other_url != base_url
    assert ours.getheader("ETag") == theirs.getheader("ETag")
    assert ours.getheader("Last-Modified") == theirs.getheader("Last-Modified") == "Mon, 02 Mar 2026 08:00:00 GMT"


@pytest.mark.parametrize("path", [
    DEAD_LINK,
    "/install/",
    "/index.html/",
    "/../server.py",
    "/../../errors.py",
    "/%2e%2e/server.py",
    "/..%2fserver.py",
    "/..%5cserver.py",
    "//etc/passwd",
    "/pages/index.html",
    "/faq.html%00.txt",
])  # fmt: skip
def test_what_is_not_there_is_404(base_url: str, path: str) -> None:
    response, body = get(base_url, path)
    assert response.status == 404
    assert b"Not found" in body


def test_one_connection_serves_many_requests(base_url: str) -> None:
    connection = HTTPConnection(urlsplit(base_url).netloc, timeout=10)
    sockets = set()
    for path in ("/", DEAD_LINK, "/old-manual.html", "/faq.html"):
        connection.request("GET", path)
        connection.getresponse().read()
        sockets.add(id(connection.sock))
    connection.close()
    assert len(sockets) == 1


def test_server_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with serve_demo_site(port=0) as url:
        get(url, "/")
        get(url, DEAD_LINK)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_taken_port_is_an_error_that_names_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} of 127.0.0.1 is taken.*choose another port"):
            serve_demo_site(port).__enter__()


def test_port_is_free_again_afterwards() -> None:
    with serve_demo_site(port=0) as url:
        get(url, "/")
    port = urlsplit(url).port or 0
    with serve_demo_site(port) as again:
        assert again == url


def test_default_port_is_fixed() -> None:
    assert serve_demo_site.__wrapped__.__defaults__ == (DEMO_PORT,)  # type: ignore[attr-defined]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.expected_path)
def test_question_is_answered_by_its_page_alone(question: Question) -> None:
    holders = {path for path, page in pages().items() if question.answer in page.text}
    assert holders == {question.expected_path}


def test_one_question_crosses_languages() -> None:
    assert {pages()[question.expected_path].language for question in QUESTIONS} == {"en", "es"}
    assert not [path for path, page in pages().items() if page.language == "en" and "typhoon" in page.text.lower()]


def test_kb_file_is_valid() -> None:
    spec = parse_spec(demo_spec("http://127.0.0.1:8420"), "demo.yaml", {})
    (source,) = spec.sources
    assert isinstance(source, WebSource)
    assert (str(spec.key), source.start_urls, source.delay_s) == (
        "acme/handbook",
        ["http://127.0.0.1:8420/"],
        0,
    )
    assert spec.schedule is None
    assert source.max_pages > len(pages())


def test_templates_are_filled_in() -> None:
    assert b"{" not in site()["/robots.txt"].body + site()["/sitemap.xml"].body
