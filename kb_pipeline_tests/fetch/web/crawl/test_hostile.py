"""Servers that answer with too much, too slowly or brokenly: one failure each, and everybody else is served."""

from __future__ import annotations

import gzip
import itertools
import socket
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import brotli
import pytest
from backports import zstd

from kb_pipeline_tests.fetch.web.conftest import Crawler, known_file

MB = 1 << 20
GROWTH = 100 * MB
"""What a crawl of hostile servers may take beyond one of a friendly site."""
BOMB_MB = 300
"""What a few kilobytes of a bomb decompress to: well beyond GROWTH, and made in a second."""
Response = Callable[[], Iterable[bytes]]


class RawServer:
    """Sends the bytes that a path stands for, as they are; it closes each connection after its answer."""

    def __init__(self, answers: dict[str, Response]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                request = connection.recv(65536)
                path = request.split(b" ", 2)[1].decode() if request else ""
                self.asked.append(path)
                for piece in self.answers.get(path, lambda: [b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"])():
                    connection.sendall(piece)
            except OSError:
                return


def _ok(body: bytes, *headers: str, kind: str = "text/html", connection: str = "close") -> bytes:
    lines = [f"Content-Type: {kind}", f"Content-Length: {len(body)}", f"Connection: {connection}", *headers]
    return ("HTTP/1.1 200 OK\r\n" + "\r\n".join(lines) + "\r\n\r\n").encode() + body


def _encoded(encoding: str, body: bytes) -> Response:
    answer = _ok(body, f"Content-Encoding: {encoding}")
    return lambda: [answer]


@cache
def _gzip_bomb() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(b"\0" * MB) for _ in range(BOMB_MB)) + packer.flush()


@cache
def _brotli_bomb() -> bytes:
    packer = brotli.Compressor(quality=5)
    return b"".join(packer.process(b"\0" * MB) for _ in range(BOMB_MB)) + bytes(packer.finish())


@cache
def _zstd_bomb() -> bytes:
    packer = zstd.ZstdCompressor()
    return b"".join(packer.compress(b"\0" * MB) for _ in range(BOMB_MB)) + packer.flush()


def _five_gigabytes(announced: bool) -> Response:
    def answer() -> Iterator[bytes]:
        length = f"Content-Length: {5 << 30}" if announced else "Transfer-Encoding: chunked"
        yield f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{length}\r\n\r\n".encode()
        piece = b"x" * MB
        yield from itertools.repeat(piece if announced else b"%x\r\n%s\r\n" % (MB, piece), 5 << 10)

    return answer


def _drip() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 100000\r\n\r\n"
    while True:
        yield b"x"
        time.sleep(0.3)


def _endless_headers() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    for number in itertools.count():
        yield f"X-{number}: {'y' * 1000}\r\n".encode()


def _endless_header_line() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nX: "
    yield from itertools.repeat(b"y" * 10_000)


def _endless_interim() -> Iterator[bytes]:
    yield from itertools.repeat(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 100)


def _broken_chunks() -> list[bytes]:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n"
    return [head, b"5\r\nhello\r\nzz\r\n!"]


def _silence() -> Iterator[bytes]:
    time.sleep(6)
    yield b""


@cache
def hostile() -> dict[str, tuple[Response, str]]:
    """What each path answers and what becomes of it; made when it is needed, since the bombs take a while."""
    return {
        "/gzip": (_encoded("gzip", _gzip_bomb()), "rejected too_large"),
        "/brotli": (_encoded("br", _brotli_bomb()), "rejected too_large"),
        "/zstd": (_encoded("zstd", _zstd_bomb()), "rejected too_large"),
        "/nested": (_encoded("gzip, br", brotli.compress(gzip.compress(_gzip_bomb()), quality=5)), "fetched"),
        "/nested-bomb": (_encoded("gzip, gzip", gzip.compress(_gzip_bomb())), "rejected too_large"),
        "/layers": (_encoded("gzip, gzip, gzip, gzip", b"x"), "failed decoding"),
        "/no-gzip": (_encoded("gzip", b"this is no gzip"), "failed decoding"),
        "/five-gigabytes": (_five_gigabytes(announced=True), "rejected too_large"),
        "/five-gigabytes-chunked": (_five_gigabytes(announced=False), "rejected too_large"),
        "/drip": (_drip, "failed too_slow"),
        "/headers": (_endless_headers, "failed headers_too_large"),
        "/header-line": (_endless_header_line, "failed headers_too_large"),
        "/interim": (_endless_interim, "failed headers_too_large"),
        "/short": (lambda: [_ok(b"x" * 100)[:-50]], "failed truncated"),
        "/chunks": (_broken_chunks, "failed"),
        "/silence": (_silence, "failed timeout"),
        "/garbage": (lambda: [b"\x00\xff\xfe not HTTP at all\r\n\r\n"], "failed connection"),
        "/nothing": (lambda: [], "failed connection"),
    }


@contextmanager
def _serving(answers: dict[str, Response]) -> Iterator[RawServer]:
    server = RawServer(answers)
    try:
        yield server
    finally:
        server.close()


def _page(*links: str) -> Response:
    body = "".join(f'<p><a href="{link}">to {link}</a></p>' for link in links).encode()
    return lambda: [_ok(body or b"<p>Nothing more.</p>")]


NEIGHBOURS = [f"/good{number}" for number in range(40)]


@pytest.mark.upgrade("scrapy")
@pytest.mark.xdist_group("hostile")
@pytest.mark.parametrize("engine", ["scrapy", "aiohttp"])
def test_hostile_responses_fail_once_each_in_bounded_memory(crawled: Crawler, tmp_path: Path, engine: str) -> None:
    good = {path: _page() for path in NEIGHBOURS}
    with _serving({"/": _page(*NEIGHBOURS), **good}) as friendly:
        plain = crawled(friendly.url + "/").summary.peak_rss_bytes
    crawled.forget()
    enemies = hostile()
    answers = {path: answer for path, (answer, _) in enemies.items()} | good
    with _serving({"/": _page(*enemies, *NEIGHBOURS), **answers}) as server:
        pages = ({"key": server.url + path} for path in [*enemies, *NEIGHBOURS])
        known = known_file(tmp_path / "known.parquet", *pages) if engine == "aiohttp" else None
        found = crawled(server.url + "/", known=known, retries=0, timeout_s=3.0, deadline_s=9.0)
    assert engine in found.summary.engines
    outcomes = {path: found.outcome(server.url + path) for path in enemies}
    assert {path: outcomes[path] for path, (_, said) in enemies.items() if not outcomes[path].startswith(said)} == {}
    assert {found.outcome(server.url + path) for path in NEIGHBOURS} == {"fetched"}
    assert found.summary.peak_rss_bytes - plain < GROWTH


def test_a_page_of_100_000_links_and_sitemaps_without_an_end(crawled: Crawler) -> None:
    links = b"".join(b'<a href="/l%d">x</a>' % number for number in range(100_000))
    urls = b"".join(b"<url><loc>http://127.0.0.1/u%d</loc></url>" % number for number in range(1_000_000))
    with _serving({}) as server:
        origin = server.url.encode()
        loop = b"<sitemapindex><sitemap><loc>%s/loop.xml</loc></sitemap></sitemapindex>" % origin
        server.answers |= {
            "/": lambda: [_ok(b"<p>start</p>" + links)],
            "/million.xml": lambda: [_ok(b"<urlset>" + urls + b"</urlset>", kind="text/xml")],
            "/loop.xml": lambda: [_ok(loop, kind="text/xml")],
        }
        sitemaps = (server.url + "/loop.xml", server.url + "/million.xml")
        plain = crawled(server.url + "/none").summary.peak_rss_bytes
        crawled.forget()
        found = crawled(server.url + "/", sitemap=sitemaps, max_pages=20, max_depth=0)
    assert found.outcome(server.url + "/") == "fetched"
    assert {problem.key.removeprefix(server.url): problem.reason for problem in found.summary.problems} == {
        "/": "too_many_links", "/million.xml": "sitemap_too_large", "/loop.xml": "sitemap_loop",
    }  # fmt: skip
    assert found.summary.peak_rss_bytes - plain < GROWTH


class _Leaving(RawServer):
    """Answers the first request of a connection, and leaves at the second one."""

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            for number in range(2):
                request = connection.recv(65536)
                if not request:
                    return
                self.asked.append(request.split(b" ", 2)[1].decode())
                if number == 0:
                    connection.sendall(_ok(b'<a href="/a">a</a><a href="/b">b</a>', connection="keep-alive"))


@pytest.mark.upgrade("scrapy")
@pytest.mark.parametrize("engine", ["scrapy", "aiohttp"])
def test_no_request_is_resent_without_the_throttle(crawled: Crawler, tmp_path: Path, engine: str) -> None:
    server = _Leaving({})
    pages = ({"key": server.url + path} for path in ("/", "/a", "/b"))
    known = known_file(tmp_path / "known.parquet", *pages) if engine == "aiohttp" else None
    found = crawled(server.url + "/", known=known, delay_s=0.05, retries=0)
    server.close()
    assert max(Counter(server.asked).values()) == 1
    assert found.summary.requests == len(server.asked)
    assert {"failed connection", "failed robots_unreachable"} & {found.outcome(key) for key in found.rows}
