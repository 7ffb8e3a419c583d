"""A small web site on loopback that does what a test tells it and logs who asked when."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from typing import Any


@dataclass
class Page:
    """One response."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "text/html; charset=utf-8"})
    content_length: int | None = None
    chunk_pause_s: float = 0.0
    hang_s: float = 0.0


@dataclass(frozen=True)
class Hit:
    """One request that arrived."""

    at: float
    path: str
    headers: Mapping[str, str]


Response = Page | Callable[[Hit, int], Page]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # Python's 5 makes the kernel turn away a burst of connections for a second


class Site:
    """Pages by path; anything else is a 404. `robots.txt` is a 404 until a test sets it."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.pages: dict[str, Response] = {}
        self.hits: list[Hit] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = _Server((address, 0), self._handler())
        self.url = f"http://{address}:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def count(self, path: str) -> int:
        return sum(hit.path == path for hit in self.hits)

    def paths(self) -> list[str]:
        return [hit.path for hit in self.hits]

    def link(self, path: str, *targets: str, **page: Any) -> None:
        """Serve a page that links to the targets, with a word of its own: what says nothing new is left in the end."""
        own = path.translate(str.maketrans("0123456789", "qwertzuiop", "/"))
        body = "".join(f'<p><a href="{target}">to {target}</a></p>' for target in targets)
        self.pages[path] = Page(f"<html><body>{path}{body}<p>own{own}</body></html>".encode(), **page)

    def redirect(self, path: str, target: str, status: int = 302) -> None:
        self.pages[path] = Page(status=status, headers={"Location": target})

    def _log(self, path: str, headers: Mapping[str, str]) -> Page:
        with self._lock:
            earlier = self.count(path)
            hit = Hit(monotonic(), path, headers)
            self.hits.append(hit)
        answer = self.pages.get(path, Page(b"nothing here", 404))
        return answer(hit, earlier) if callable(answer) else answer

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                page = site._log(self.path, dict(self.headers))
                site._closing.wait(page.hang_s)
                self.send_response(page.status)
                for name, value in page.headers.items():
                    self.send_header(name, value)
                length = len(page.body) if page.content_length is None else page.content_length
                if page.status != 304:
                    self.send_header("Content-Length", str(length))
                self.end_headers()
                self._send_body(page)
                if length != len(page.body):
                    self.close_connection = True

            def _send_body(self, page: Page) -> None:
                try:
                    if not page.chunk_pause_s:
                        self.wfile.write(page.body)
                        return
                    for byte in page.body:
                        self.wfile.write(bytes([byte]))
                        if site._closing.wait(page.chunk_pause_s):
                            return
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def log_message(self, *_: object) -> None: ...

        return Handler


@contextmanager
def running_site(address: str = "127.0.0.1") -> Iterator[Site]:
    site = Site(address)
    try:
        yield site
    finally:
        site.close()
