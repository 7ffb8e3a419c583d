"""Serves the cases that are small sites, each on a loopback address of its own, with any answer down to its bytes."""

from __future__ import annotations

import base64
import contextlib
import gzip
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from kb_pipeline_tests.page_cases.cases import Case, generated

_HTML = "text/html; charset=utf-8"
_NOT_FOUND = {"status": 404, "body": "<p>not found"}
_Answer = Callable[[str, Mapping[str, str], int], bytes]
"""Takes the target, the headers by lower-case name, and how often the target was asked for, this time included."""


@dataclass(frozen=True)
class SmallSite:
    """Where a case is served."""

    case: Case
    base: str
    base2: str
    """Of its second host."""

    def answer(self, target: str, headers: Mapping[str, str], visit: int, *, prefix: str = "") -> bytes:
        """Return the whole response, byte for byte."""
        routes = self.case.routes or {}
        spec = routes.get(prefix + target, routes.get("*", _NOT_FOUND))
        if isinstance(spec, Sequence):
            spec = spec[min(visit, len(spec)) - 1]
        if "without_cookie" in spec and "cookie" not in headers:
            spec = spec["without_cookie"]
        return self._response(spec)

    def _response(self, spec: Mapping[str, Any]) -> bytes:
        if "raw" in spec:
            return self._filled(spec["raw"]).encode("latin-1")
        body = self._body(spec)
        if spec.get("gzip"):
            body = gzip.compress(body)
        content_type = spec.get("type", _HTML)
        headers = {} if content_type is None else {"Content-Type": content_type}
        headers |= {name: self._filled(value) for name, value in spec.get("headers", {}).items()}
        headers = {"Content-Length": str(len(body))} | headers | {"Connection": "close"}
        lines = [f"HTTP/1.1 {spec.get('status', 200)} X", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    def _body(self, spec: Mapping[str, Any]) -> bytes:
        if "gen" in spec:
            return generated(*spec["gen"])
        if "body_b64" in spec:
            return base64.b64decode(spec["body_b64"])
        return self._filled(spec.get("body", "")).encode(spec.get("encoding", "utf-8"), "replace")

    def _filled(self, text: str) -> str:
        return text.replace("{BASE2}", self.base2).replace("{BASE}", self.base)


class SiteServer:
    """Listens on one address for each site, and on a second one for its other host."""

    def __init__(self, cases: Sequence[Case], stack: contextlib.ExitStack) -> None:
        self.asked: Counter[str] = Counter()
        """Requests by URL."""
        self._stack, self._counting = stack, threading.Lock()
        port = _free_port()
        self.sites = [
            SmallSite(case, f"http://127.77.1.{number}:{port}", f"http://127.77.2.{number}:{port}")
            for number, case in enumerate(cases, start=1)
        ]
        for site in self.sites:
            self._listen(site.base, site.answer)
            self._listen(site.base2, partial(site.answer, prefix="2:"))

    def _listen(self, base: str, answer: _Answer) -> None:
        host, _, port = base.removeprefix("http://").rpartition(":")
        listener = self._stack.enter_context(socket.create_server((host, int(port)), backlog=128))
        # Closing alone would leave the thread in accept.
        self._stack.callback(listener.shutdown, socket.SHUT_RDWR)
        threading.Thread(target=self._accept, args=(listener, base, answer), daemon=True).start()

    def _accept(self, listener: socket.socket, base: str, answer: _Answer) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._serve, args=(connection, base, answer), daemon=True).start()

    def _serve(self, connection: socket.socket, base: str, answer: _Answer) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(30)
            target, headers = _request(connection)
            with self._counting:
                self.asked[base + target] += 1
                visit = self.asked[base + target]
            connection.sendall(answer(target, headers, visit))
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)  # until the client has read all and closes


def _request(connection: socket.socket) -> tuple[str, dict[str, str]]:
    head = b""
    while b"\r\n\r\n" not in head:
        received = connection.recv(65536)
        if not received:
            raise ConnectionError
        head += received
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in lines if line)
    return first.split(" ")[1], {name.lower(): value.strip() for name, _, value in fields}


def _free_port() -> int:
    with socket.create_server(("127.77.1.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def serve_sites(cases: Sequence[Case]) -> Iterator[SiteServer]:
    """Serve each case on addresses of its own."""
    with contextlib.ExitStack() as stack:
        yield SiteServer(cases, stack)
