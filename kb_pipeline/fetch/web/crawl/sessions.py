"""Learns which parts of URLs are sessions: values that look random and change nothing on the page.

Parameters that are sessions by name are dropped before; see urls.canonical_url. What is learned here is proved by
pages: the same text under two values, for two different pages of the host, and never two texts. From then on a URL that
differs only in such a value is another spelling of the first one that was visited.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import msgspec

from kb_pipeline.store.durable_files import write_durably
from kb_pipeline.urls import looks_random, origin_of, path_of

SESSIONS_FILE = "sessions.json"
"""Within the notes of a source: what was learned, from one crawl to the next."""
_CHARS = 8
"""A value must have so many characters, so that an article number like `a1b2c3` is none."""
_BRACKETED = re.compile(r"\([A-Z]\([0-9A-Za-z_-]+\)\)")
_PROOFS = 2
_MAX_PAGES = 100_000


class _First(msgspec.Struct, array_like=True):
    """The first page that was visited of those that differ in values that look random."""

    url: str
    signatures: tuple[int, ...] = ()
    is_proof: bool = False
    """Whether another value gave the same text."""


class _Learned(msgspec.Struct):
    """What is kept from one crawl to the next."""

    firsts: dict[str, _First]
    proofs: dict[str, list[int]]
    """By place in URLs: a signature of each page that was the same under two values."""
    refuted: set[str]
    """Places in URLs whose values make a difference."""


class Sessions:
    """What is known of sessions in the URLs of one source."""

    def __init__(self, path: Path | None = None) -> None:
        self._path, self._is_changed = path, False
        try:
            self._learned = msgspec.json.decode(path.read_bytes() if path is not None else b"", type=_Learned)
        except (OSError, msgspec.DecodeError):
            self._learned = _Learned({}, {}, set())  # the first crawl, or a torn file

    def spelling(self, url: str) -> str:
        """Return the URL that was visited first of those that differ from this one in sessions only."""
        if not self._learned.proofs:
            return url
        place, rest = _split(url)
        first = self._learned.firsts.get(rest) if place and self._is_session(place) else None
        return url if first is None else first.url

    def visit(self, url: str) -> None:
        """Note that a URL is visited now."""
        place, rest = _split(url)
        if place and rest not in self._learned.firsts and len(self._learned.firsts) < _MAX_PAGES:
            self._learned.firsts[rest] = _First(url)
            self._is_changed = True

    def learn(self, url: str, signatures: tuple[int, ...]) -> None:
        """Compare a page with the one that differs in values that look random only."""
        place, rest = _split(url)
        first = self._learned.firsts.get(rest) if place else None
        if first is None or not signatures:
            return
        self._is_changed = True
        if first.url == url or not first.signatures:
            first.signatures = signatures
        elif set(first.signatures).isdisjoint(signatures):
            self._learned.refuted.add(place)
        elif not first.is_proof:
            first.is_proof = True
            proofs = self._learned.proofs.setdefault(place, [])
            if signatures[0] not in proofs and len(proofs) < _PROOFS:
                proofs.append(signatures[0])

    def save(self) -> None:
        """Write what was learned to disk for the next crawl, if anything was."""
        if self._path is not None and self._is_changed:
            write_durably(self._path, msgspec.json.encode(self._learned))
            self._is_changed = False

    def _is_session(self, place: str) -> bool:
        return place not in self._learned.refuted and len(self._learned.proofs.get(place, ())) >= _PROOFS


def _split(url: str) -> tuple[str, str]:
    """Return where values that look random stand in a URL, empty if nowhere, and the URL without them."""
    path, _, query = path_of(url).partition("?")
    segments, pairs = path.split("/"), [pair.partition("=") for pair in query.split("&")] if query else []
    places = [f"/{number}" for number, segment in enumerate(segments) if _may_be_session(segment)]
    places += [f"?{name}" for name, _, value in pairs if _may_be_session(value)]
    if not places:
        return "", url
    kept = "/".join("~" if _may_be_session(segment) else segment for segment in segments)
    named = "&".join(f"{name}=~" if _may_be_session(value) else f"{name}={value}" for name, _, value in pairs)
    return f"{origin_of(url)} {' '.join(places)}", f"{origin_of(url)}{kept}?{named}"


def _may_be_session(value: str) -> bool:
    return looks_random(value, _CHARS) or _BRACKETED.fullmatch(unquote(value)) is not None
