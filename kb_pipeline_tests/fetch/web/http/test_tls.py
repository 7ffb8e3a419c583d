"""Certificates are verified."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kb_pipeline_tests.fetch.web.certificates import Authority
from kb_pipeline_tests.fetch.web.conftest import Crawler, known_file


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def https_url(tmp_path: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Authority(tmp_path).certificate("localhost"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Quiet)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://localhost:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


@pytest.mark.upgrade("scrapy")
@pytest.mark.parametrize("is_known", [False, True])
def test_a_certificate_of_an_unknown_authority(
    https_url: str, crawled: Crawler, tmp_path: Path, is_known: bool
) -> None:
    known = known_file(tmp_path / "known.parquet", {"key": https_url}) if is_known else None
    found = crawled(https_url, known=known, retries=0)
    assert found.summary.engines == (("aiohttp",) if is_known else ("scrapy",))
    assert found.outcome(https_url) == "failed robots_unreachable"
    assert "tls" in found.rows[https_url]["message"]
