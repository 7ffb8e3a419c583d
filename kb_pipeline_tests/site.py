"""A small web site in memory whose pages a test can change between two refreshes."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Site:
    """Pages by path; `status` and `redirects` answer instead of them when set.

    `asked` counts the requests that got a body, `answered` all of them, and `sent` the bytes of bodies.
    `headers` are sent with every answer and replace the site's own.
    """

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        self.status: dict[str, int] = {}
        self.everything: int | None = None
        self.redirects: dict[str, str] = {}
        self.headers: Callable[[], dict[str, str]] = dict
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.url = ""

    def reset(self) -> None:
        """As it was when it was new, at the same address."""
        for held in (self.pages, self.status, self.redirects, self.asked, self.answered, self.sent):
            held.clear()
        self.everything, self.headers = None, dict

    def put(self, path: str, title: str, text: str, links: tuple[str, ...] = ()) -> None:
        anchors = "".join(f'<li><a href="{link}">see {link}</a></li>' for link in links)
        self.pages[path] = (
            f"<!doctype html><html lang=en><head><title>{title}</title></head><body><main><h1>{title}</h1>"
            f"<p>{text}</p><ul>{anchors}</ul></main></body></html>"
        )


def plant_orchard(site: Site) -> None:
    """Five pages in English, the first linking to the others."""
    topics = {
        "/apples": ("Apples", "Apples keep for months in a cool and dark cellar, best on wooden shelves."),
        "/pears": ("Pears", "Pears ripen after they are picked, so pick them while they are still hard."),
        "/plums": ("Plums", "Plums are dried into prunes or boiled down to a thick and dark jam."),
        "/quinces": ("Quinces", "Quinces are too hard to be eaten raw; cooked they turn a deep red."),
    }
    site.put("/", "Orchard", "The handbook of our orchard: how fruit is picked and stored.", tuple(topics))
    for path, (title, text) in topics.items():
        site.put(path, title, text)


@contextmanager
def serve_site() -> Iterator[Site]:
    """Serve an empty site on a free loopback port."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            page, target = site.pages.get(self.path), site.redirects.get(self.path)
            status = (
                302 if target else site.everything or site.status.get(self.path) or (200 if page is not None else 404)
            )
            body = (page or "").encode() if status == 200 else b"no"
            etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            headers = {"Content-Type": "text/html; charset=utf-8", "ETag": etag} | site.headers()
            if status == 200 and self.headers.get("If-None-Match") == headers["ETag"]:
                status, body = 304, b""
            else:
                site.asked[self.path] += 1
            site.answered[self.path] += 1
            site.sent[self.path] += len(body)
            self.send_response(status)
            for name, value in (headers | ({"Location": target} if target else {})).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
