"""Serves the sample site, a small invented handbook in five languages, over HTTP on loopback."""

from __future__ import annotations

import errno
import hashlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

from kb_pipeline.errors import UsageError

DEMO_PORT = 8420
"""The default port is fixed, since a document's key is its URL: another port would be another site."""

EDITED = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
"""When the pages were last edited; advance it when you edit one, or a crawl by sitemap skips the change."""

PRIVATE_PHRASE = "cobalt walrus umbrella"
"""Occurs only on pages that robots.txt forbids: a search that finds it proves that a crawler ignored robots.txt."""

REDIRECTS: Mapping[str, str] = {"/old-manual.html": "/products/skua-2.html", "/index.html": "/"}

_HERE = Path(__file__).parent
_CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".pdf": "application/pdf",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".xml": "application/xml; charset=utf-8",
}
_NOT_FOUND = b"<!DOCTYPE html>\n<html lang=en><title>Not found</title><h1>Not found</h1>\n"


@dataclass(frozen=True, slots=True)
class Question:
    """A question to the sample site and the page that answers it."""

    text: str
    expected_path: str
    answer: str
    """Words of the page that hold the answer."""
    note: str
    """What the question demonstrates, for people who watch the demo."""


QUESTIONS = (
    Question(
        "How long is the warranty if my weather station stands close to the sea?",
        "/warranty.html",
        "18 months",
        "a question in plain words",
    ),
    Question(
        "Halden-Signature HMAC-SHA256 verify_signature",
        "/api/webhooks.html",
        "hmac.compare_digest",
        "names from code, found by keyword",
    ),
    Question(
        "Which crop coefficient is used for the irrigation of olive trees?",
        "/es/riego-y-evapotranspiracion.html",
        "Olivo 0,65",
        "asked in English, answered only by a Spanish page",
    ),
)


@dataclass(frozen=True, slots=True)
class SiteFile:
    """A file that the site serves."""

    body: bytes
    content_type: str

    @property
    def etag(self) -> str:
        """A strong validator: the content's hash, the same in every run."""
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'


@contextmanager
def serve_demo_site(port: int = DEMO_PORT) -> Iterator[str]:
    """Serve the sample site on 127.0.0.1 while the context lasts; yield its base URL, without a final slash.

    Args:
        port: the port to listen on; 0 for any free port.

    Raises:
        UsageError: another process listens on the port.
    """
    try:
        server = _Server(("127.0.0.1", port), _Handler)
    except OSError as error:
        if error.errno in {errno.EADDRINUSE, errno.EACCES}:
            raise UsageError(
                f"port {port} of 127.0.0.1 is taken, so the sample site cannot be served there; "
                "stop what listens on it (another demo?) or choose another port"
            ) from None
        raise
    base_url = f"http://127.0.0.1:{server.server_port}"
    server.files = load_site(base_url)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="demo-site", daemon=True)
    thread.start()
    try:
        yield base_url
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def load_site(base_url: str) -> dict[str, SiteFile]:
    """Read the whole site into memory, by URL path, so that no request reads the file system."""
    files = {_url_path(path): _read(path) for path in _page_files()}
    for name in ("robots.txt", "sitemap.xml"):
        text = (_HERE / name).read_text(encoding="utf-8")
        body = text.format(base_url=base_url, lastmod=EDITED.date().isoformat()).encode()
        files[f"/{name}"] = SiteFile(body, _CONTENT_TYPES[Path(name).suffix])
    return files


def demo_spec(base_url: str) -> str:
    """Return the text of the KB file that crawls the site at `base_url`."""
    return (_HERE / "demo.yaml").read_text(encoding="utf-8").format(base_url=base_url)


def _page_files() -> list[Path]:
    return sorted(path for path in (_HERE / "pages").rglob("*") if path.is_file())


def _url_path(path: Path) -> str:
    return f"/{path.relative_to(_HERE / 'pages').as_posix()}".removesuffix("index.html")


def _read(path: Path) -> SiteFile:
    return SiteFile(path.read_bytes(), _CONTENT_TYPES[path.suffix])


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    files: Mapping[str, SiteFile]

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a client that closes its connection early; report every other error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    """Responds to GET and HEAD with the server's files."""

    protocol_version = "HTTP/1.1"
    server_version = "demo-site"
    sys_version = ""
    timeout = 30  # seconds, for an idle connection
    # Head and body in one packet: in two, delayed acknowledgements would cost 40 ms a page.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        """Respond with the file, a redirect, 304 or 404."""
        path = unquote(self.path.partition("?")[0])
        file = self.server.files.get(path)
        if path in REDIRECTS:
            self._respond(HTTPStatus.MOVED_PERMANENTLY, {"Location": REDIRECTS[path]}, b"")
        elif file is None:
            self._respond(HTTPStatus.NOT_FOUND, {"Content-Type": "text/html; charset=utf-8"}, _NOT_FOUND)
        elif _matches(self.headers.get("If-None-Match", ""), file.etag):
            self._respond(HTTPStatus.NOT_MODIFIED, _validators(file), b"")
        else:
            self._respond(HTTPStatus.OK, {"Content-Type": file.content_type, **_validators(file)}, file.body)

    do_HEAD = do_GET  # noqa: N815 - the name http.server calls

    def _respond(self, status: HTTPStatus, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: the demo shows only the output of the crawl."""


def _matches(if_none_match: str, etag: str) -> bool:
    candidates = {part.strip().removeprefix("W/") for part in if_none_match.split(",")}
    return bool(candidates & {etag, "*"})


def _validators(file: SiteFile) -> dict[str, str]:
    return {"ETag": file.etag, "Last-Modified": format_datetime(EDITED, usegmt=True)}
