"""Compares what a KB has of whole manuals with what a plain walk over their links reaches.

Run it with: python -m benchmarks.completeness [--packages NAME ...] [--limited N] [--json]

The manuals are documentation packages of Debian, of ten different generators, served on loopback by Python's own web
server. They are downloaded by apt into --cache and unpacked without being installed. The walk is a second, tiny
crawler that knows nothing of ours: it follows every link of every page. The stages fetch and clean then run twice: with
`max_pages` 50 for the --limited largest ones, and with 20,000. All that the walk reached must be a document, a copy of
one, an address that leads to one, or left out for a reason that its text shows.
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.client import HTTPConnection
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

from kb_pipeline.clean.refresh import refresh_documents
from kb_pipeline.clean.rules import CleaningRules
from kb_pipeline.fetch.refresh import refresh_pages
from kb_pipeline.fetch.web.rules import CrawlRules
from kb_pipeline.fetch.web.source import WebSite
from kb_pipeline.host_scheduler import LocalHostScheduler
from kb_pipeline.model import KbKey
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.paths import KbPaths
from kb_pipeline.store.stage_tables import DOCUMENTS, PAGES
from kb_pipeline.urls import canonical_url

PACKAGES = {
    "libjsoup-java-doc": "Javadoc",
    "git-doc": "AsciiDoc",
    "zsh-doc": "texi2html",
    "postgresql-doc-15": "DocBook",
    "python-django-doc": "Sphinx",
    "nodejs-doc": "remark",
    "apache2-doc": "XSLT of the project's own, many languages",
    "sqlite3-doc": "Tcl of the project's own",
    "maxima-doc": "texi2any",
    "libglib2.0-doc": "gtk-doc",
}
"""Debian packages, each with the generator of its pages."""
_FIRST, _WHOLE = 50, 20_000
_HTML = (".html", ".htm", ".xhtml")
_STARTS = ("index.html", "index.htm", "maxima_toc.html")


@dataclass
class Manual:
    """How one manual fared."""

    package: str
    walked: int
    """Pages that the walk reached."""
    missing: dict[str, str]
    """Those that are neither a document nor lead to one, with the reason."""
    documents: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    """Pages that are no documents of their own, by reason: copies, listings, redirects, pages without a text."""
    seconds: float = 0.0
    first: int | None = None
    """Documents after a first refresh with few pages, if there was one."""


def measure(package: str, root: Path, *, is_limited: bool) -> Manual:
    """Serve a manual, walk over it and build it."""
    with _served(root) as url, tempfile.TemporaryDirectory() as home:
        walked = walk(url)
        store = KbStore(KbPaths(Path(home), KbKey("bench", "manual")))
        first = _refreshed(store, url, _FIRST) if is_limited else None
        began = time.monotonic()
        documents = _refreshed(store, url, _WHOLE)
        found = Manual(package, len(walked), {}, documents, seconds=time.monotonic() - began, first=first)
        found.missing, found.left_out = _compared(store, walked)
    return found


def walk(start: str) -> set[str]:
    """Return the canonical addresses of all HTML pages that links lead to from `start`, on its host."""
    host = urlsplit(start).netloc
    connection = HTTPConnection(host)
    queue, seen, pages = deque([start]), {start}, set[str]()
    while queue:
        url = queue.popleft()
        connection.request("GET", urlsplit(url)._replace(scheme="", netloc="").geturl())
        response = connection.getresponse()
        body = response.read()
        targets = [urljoin(url, response.getheader("Location", ""))] if response.status in (301, 302) else []
        if response.status == 200 and response.getheader("Content-Type", "").startswith(
            ("text/html", "application/xh")
        ):
            pages.add(url)
            targets = _Links(url).of(body.decode("utf-8", "replace"))
        for target in targets:
            spelled = canonical_url(target)
            if spelled and urlsplit(spelled).netloc == host and spelled not in seen:
                seen.add(spelled)
                queue.append(spelled)
    return pages


class _Links(HTMLParser):
    """The links of a page, by Python's own parser."""

    def __init__(self, url: str) -> None:
        super().__init__(convert_charrefs=True)
        self._base, self._found = url, list[str]()

    def of(self, html: str) -> list[str]:
        self.feed(html)
        return self._found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "base" and given.get("href"):
            self._base = urljoin(self._base, given["href"])
        href = given.get("href" if tag in ("a", "area") else "src" if tag in ("frame", "iframe") else "", "")
        if href.strip("/ ") and "nofollow" not in given.get("rel", ""):
            with suppress(ValueError):  # no valid URL, in a page's own example
                self._found.append(urldefrag(urljoin(self._base, href.strip())).url)


def _refreshed(store: KbStore, url: str, max_pages: int) -> int:
    rules = CrawlRules(
        source="site", start_urls=(url,), sitemap="auto", scope="host", include=(), exclude=(), max_pages=max_pages,
        max_depth=100, delay_s=0.0, user_agent="kb-benchmark", allowed_networks=("127.0.0.0/8",),
    )  # fmt: skip
    refresh_pages(store, [WebSite(rules)], "run", _no_progress, lambda _: LocalHostScheduler())
    return refresh_documents(store, CleaningRules(), "run", _no_progress).passed


def _no_progress(done: int, total: int | None) -> None:
    del done, total


def _compared(store: KbStore, walked: set[str]) -> tuple[dict[str, str], dict[str, int]]:
    columns = ["key", "outcome", "reason", "duplicate_of"]
    table = store.tables.open(DOCUMENTS)
    has_left_out = "left_out" in table.schema.names
    left_out: Counter[str] = Counter()
    missing: dict[str, str] = {}
    documents = {row["key"]: row for row in table.read_columns([*columns, *["left_out"] * has_left_out]).to_dicts()}
    pages = {row["key"]: row for row in store.tables.open(PAGES).read_columns(["key", "outcome", "reason"]).to_dicts()}
    for url in sorted(walked):
        page, document = pages.get(url), documents.get(url)
        if document is not None and document["outcome"] == "document":
            why = "duplicate" if document["duplicate_of"] else document.get("left_out")
            left_out.update([why] if why else [])
        elif document is not None and document["outcome"] == "rejected":
            left_out[document["reason"]] += 1
        elif page is not None and page["outcome"] == "redirected":
            left_out["redirected"] += 1
        else:
            missing[urlsplit(url).path] = str((document or page or {"reason": "never met"})["reason"])
    return missing, dict(left_out)


@contextmanager
def _served(root: Path) -> Iterator[str]:
    """Serve the folder with the manual's start page; yield the address of that page."""

    class Handler(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(root.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/{root.name}"
    finally:
        server.shutdown()
        server.server_close()


def unpacked(package: str, cache: Path) -> Path:
    """Download a package unless the cache has it; return the page that leads to most of its others.

    Raises:
        CalledProcessError: apt or dpkg failed.
    """
    folder = cache / package
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=cache) as downloads:
            command = ["apt-get", "-o", "APT::Sandbox::User=root", "download", "-qq", package]
            subprocess.run(command, cwd=downloads, check=True)
            (archive,) = Path(downloads).glob("*.deb")
            subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
    starts = [path for path in folder.rglob("*.htm*") if path.name in _STARTS]
    return max(starts, key=lambda path: _pages_below(path.parent))


def _pages_below(folder: Path) -> int:
    return sum(path.suffix in _HTML for path in folder.rglob("*"))


def main() -> int:
    """Print what is missing of each manual; return 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", nargs="+", default=list(PACKAGES))
    parser.add_argument("--limited", type=int, default=5, help="how many of the largest begin with few pages")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "kb-manuals")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    given.cache.mkdir(parents=True, exist_ok=True)
    starts = {package: unpacked(package, given.cache) for package in given.packages}
    by_size = sorted(starts, key=lambda package: -_pages_below(starts[package].parent))
    manuals = []
    for package, start in starts.items():
        manuals.append(measure(package, start, is_limited=package in by_size[: given.limited]))
        if not given.json:
            print(described(manuals[-1]), flush=True)
    if given.json:
        print(json.dumps([vars(manual) for manual in manuals], indent=2))
    return int(any(manual.missing for manual in manuals))


def described(manual: Manual) -> str:
    """Return a manual's figures in a line, and what is missing in others."""
    first = f", {manual.first} at first" if manual.first is not None else ""
    told: Any = ", ".join(f"{count} {reason}" for reason, count in sorted(manual.left_out.items()))
    head = (
        f"{manual.package}: {manual.walked} pages walked, {manual.documents} documents{first}, "
        f"{told or 'nothing left out'}, {len(manual.missing)} missing, {manual.seconds:.0f} s"
    )
    return "\n".join([head, *(f"  {path}: {reason}" for path, reason in list(manual.missing.items())[:10])])


if __name__ == "__main__":
    sys.exit(main())
