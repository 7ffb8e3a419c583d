"""A proxy that the operator names is used for everything, and judges nothing for us."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from kb_pipeline_tests.fetch.web.certificates import Authority
from kb_pipeline_tests.fetch.web.conftest import Crawler, known_file
from kb_pipeline_tests.fetch.web.site import Site, running_site

pytestmark = pytest.mark.upgrade("scrapy")

SITE_ONLY = ("127.0.0.1/32",)


class Proxy:
    """Forwards GET and CONNECT, and notes what for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                proxy.asked.append(self.path)
                parts = urlsplit(self.path)
                onward = HTTPConnection(parts.netloc, timeout=5)
                onward.request("GET", parts.path, headers=dict(self.headers))
                answer = onward.getresponse()
                body = answer.read()
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_CONNECT(self) -> None:
                proxy.asked.append(self.path)
                host, _, port = self.path.partition(":")
                with socket.create_connection((host, int(port))) as onward:
                    self.send_response(200)
                    self.end_headers()
                    back = threading.Thread(target=_pump, args=(onward, self.connection))
                    back.start()
                    _pump(self.connection, onward)
                    back.join()
                self.close_connection = True

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.2", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.2:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while piece := source.recv(65536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    running = Proxy()
    yield running
    running.close()


@pytest.mark.parametrize("engine", ["scrapy", "aiohttp"])
def test_everything_goes_through_the_proxy(
    site: Site, proxy: Proxy, crawled: Crawler, tmp_path: Path, engine: str
) -> None:
    site.link("/", "/a")
    site.link("/a")
    pages = ({"key": site.url + path} for path in ("/", "/a"))
    known = known_file(tmp_path / "known.parquet", *pages) if engine == "aiohttp" else None
    found = crawled(site.url + "/", known=known, allowed_networks=SITE_ONLY, proxy=proxy.url)
    assert found.summary.engines == (engine,)
    assert found.summary.outcomes == {"fetched": 2}
    assert sorted(proxy.asked) == [site.url + path for path in ("/", "/a", "/robots.txt")]


@pytest.mark.parametrize("is_known", [False, True])
def test_the_proxy_gets_no_request_for_a_network_that_is_not_opened(
    site: Site, proxy: Proxy, crawled: Crawler, tmp_path: Path, is_known: bool
) -> None:
    with running_site("127.0.0.3") as private:
        starts = [private.url + "/", proxy.url + "/", "http://localhost:9/"]
        known = known_file(tmp_path / "known.parquet", *({"key": url} for url in starts)) if is_known else None
        found = crawled(*starts, known=known, allowed_networks=("10.0.0.0/8",), proxy=proxy.url, retries=0)
        assert {found.outcome(url) for url in starts} == {"rejected blocked_address"}
        assert (private.hits, proxy.asked) == ([], [])


@pytest.mark.parametrize("is_known", [False, True])
def test_certificates_are_verified_through_the_proxy(
    proxy: Proxy, crawled: Crawler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_known: bool
) -> None:
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate("localhost"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"https://localhost:{server.server_port}/"
    known = known_file(tmp_path / "known.parquet", {"key": url}) if is_known else None
    both: dict[str, Any] = {
        "proxy": proxy.url,
        "retries": 0,
        "known": known,
        "allowed_networks": ("127.0.0.1/32", "::1/128"),
    }
    assert crawled(url, **both).outcome(url) == "failed robots_unreachable"
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.pem))
    crawled.forget()
    assert crawled(url, **both).outcome(url) == "fetched"
    assert set(proxy.asked) == {f"localhost:{server.server_port}"}
    server.shutdown()
    server.server_close()
