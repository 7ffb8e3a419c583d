"""An endpoint of a model that lies, fails or does not end, as it is told: a real HTTP server on loopback."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Liar:
    """What the endpoint does, and what it was asked."""

    url: str = ""
    text: str = ""
    """What it answers; `{quote}` stands for the first words of the first passage, `{other}` for those of the second."""
    behaviour: str = "answer"
    """`answer`, `endless`, `cut`, `hang`, `hang_in_stream`, `garbage`, `redirect`, or a status such as `429`."""
    failures: int = 0
    """How many requests fail before it behaves."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)
    """Set once it notices that nobody listens any more."""

    @property
    def prompt(self) -> str:
        return str(self.asked[-1]["messages"][-1]["content"])


def quotes_of(prompt: str) -> tuple[str, ...]:
    """The first words of each passage."""
    passages = re.findall(r"<passage-\w+ [^>]*>\n(.*?)\n</passage-", prompt, re.DOTALL)
    lines = [[line for line in text.splitlines() if len(line.split()) >= 4] or [text] for text in passages]
    return tuple(" ".join(each[0].lstrip("#- ").split()[:8]) for each in lines)


@contextmanager
def liar() -> Iterator[Liar]:
    """Yield an endpoint."""
    state = Liar()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.asked.append(json.loads(body))
            state.headers.append(dict(self.headers))
            try:
                self.answer()
            except (BrokenPipeError, ConnectionResetError):
                state.gone.set()

        def answer(self) -> None:
            status = state.behaviour if state.behaviour.isdecimal() else ""
            if state.failures:
                state.failures -= 1
                status = status or "503"
            elif status and state.text:
                status = ""
            if status or state.behaviour == "redirect":
                self.send_response(int(status or 302))
                self.send_header("Location", "http://169.254.169.254/latest")
                self.send_header("Retry-After", "0")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if state.behaviour == "hang":
                self.wait()
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            if state.behaviour == "garbage":
                self.send(b"data: {no json\n\n")
                return
            quotes = (*quotes_of(state.prompt), "", "")
            text = state.text.replace("{quote}", quotes[0]).replace("{other}", quotes[1])
            while True:
                for piece in re.findall(r".{1,7}", text, re.DOTALL):
                    self.tell({"choices": [{"delta": {"content": piece}}]})
                if state.behaviour != "endless":
                    break
            if state.behaviour == "cut":
                return
            if state.behaviour == "hang_in_stream":
                self.wait()
                return
            self.tell({"choices": [{"delta": {}, "finish_reason": "stop"}]})
            self.tell({"choices": [], "usage": {"prompt_tokens": 900, "completion_tokens": 100}})
            self.send(b"data: [DONE]\n\n")

        def wait(self) -> None:
            """Send nothing until nobody listens."""
            self.connection.settimeout(0.05)
            for _ in range(600):
                try:
                    if not self.connection.recv(1):
                        state.gone.set()
                        return
                except TimeoutError:
                    time.sleep(0.01)
                except OSError:
                    state.gone.set()
                    return

        def tell(self, event: dict[str, Any]) -> None:
            self.send(b"data: " + json.dumps(event).encode() + b"\n\n")

        def send(self, body: bytes) -> None:
            self.wfile.write(body)
            self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}/v1"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
