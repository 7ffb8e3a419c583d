"""A web site that is a dict, and a transport that answers from it: a crawl without sockets."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kb_pipeline.fetch.web.http.client import FetchError, Request, Response
from kb_pipeline.urls import hostname_of
from kb_pipeline_tests.fetch.web.virtual_time import passed_s

SITE = "http://site.example"


@dataclass(frozen=True)
class Answer:
    """What the site says to a request."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "text/html"})
    takes_s: float = 0.01


Script = Answer | FetchError | Callable[[Request, int], Answer | FetchError]
"""An answer, an error, or what decides by the request and by how many came before."""


def page(*links: str, title: str = "", **headers: str) -> Answer:
    """A page with these links, and with a text that no other title has: pages that say nothing new are told apart."""
    words = " ".join(f"{title or '-'.join(links)}{letter}" for letter in "abcdefghijklmnop")
    anchors = "".join(f'<a href="{link}"></a>' for link in links)
    body = f"<html><title>{title}</title><body><p>{words}</p>{anchors}</body></html>".encode()
    return Answer(body, headers={"content-type": "text/html", **headers})


def redirect(target: str) -> Answer:
    return Answer(status=301, headers={"location": target})


class ScriptedSite:
    """Answers by URL; 404 for what it does not know. Notes when what was asked, and how much at once."""

    def __init__(self, **pages: Script) -> None:
        self.answers: dict[str, Script] = {f"{SITE}/{name}": answer for name, answer in pages.items()}
        self.asked: Counter[str] = Counter()
        self.requests: list[tuple[float, Request]] = []
        self.most_at_once: defaultdict[str, int] = defaultdict(int)
        self._at_once: Counter[str] = Counter()

    def __setitem__(self, path: str, answer: Script) -> None:
        self.answers[path if "://" in path else SITE + path] = answer

    async def __call__(self, request: Request) -> Response:
        answer = self.answers.get(request.url, Answer(status=404))
        if callable(answer):
            answer = answer(request, self.asked[request.url])
        host = hostname_of(request.url)
        self.asked[request.url] += 1
        self.requests.append((passed_s(), request))
        self._at_once[host] += 1
        self.most_at_once[host] = max(self.most_at_once[host], self._at_once[host])
        try:
            await asyncio.sleep(answer.takes_s if isinstance(answer, Answer) else 0.01)
        finally:
            self._at_once[host] -= 1
        if isinstance(answer, FetchError):
            raise FetchError(answer.reason, str(answer))
        now = asyncio.get_running_loop().time()
        return Response(request.url, answer.status, answer.headers, answer.body, responded_at=now)

    def times(self) -> list[float]:
        """When each request was sent, in seconds since the crawl began."""
        return [at for at, _ in self.requests]

    def order(self) -> list[str]:
        """The paths in the order in which they were asked for, without robots.txt."""
        return [r.url.removeprefix(SITE) for _, r in self.requests if not r.url.endswith("/robots.txt")]

    def headers_of(self, path: str) -> Any:
        """The headers of the last request for a path."""
        return next(r.headers for _, r in reversed(self.requests) if r.url == SITE + path)
