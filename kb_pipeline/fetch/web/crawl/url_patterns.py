"""Finds what URLs have in common: the patterns that a page's address belongs to, from its own to its host."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from kb_pipeline.urls import looks_random, netloc_of, path_of

_FOLDERS = 5
"""How many folders tell patterns apart; what lies deeper falls together."""
_DATE = re.compile(r"\d{1,4}(?:[-._]\d{1,2}){1,2}")
_VERSION = re.compile(r"v?\d{1,2}(?:\.\d{1,3})+|v\d{1,3}")
_DIGITS = re.compile(r"\d+")
_NUMBERED = re.compile(r"(?:[^\W\d_]+[-_.]?\d+)(\.[a-z]{1,5})?", re.IGNORECASE)
_EXTENSION = re.compile(r"\.[a-z]{1,5}$", re.IGNORECASE)
_BRACKETED = re.compile(r"\(.*\)")
"""How ASP.NET writes a session into a path: /(S(x1y2z3))/."""
_REPEATED = re.compile(r"((?:/[^/]+)+?)\1{2,}(?=/|$)")
"""The same folders three times in a row."""
_LETTER = re.compile(r"[^\W\d_]")


@dataclass(frozen=True, slots=True)
class UrlPatterns:
    """The patterns of one URL, by name."""

    own: str
    """Its folder, the form of its last segment and the names of its parameters."""
    across: str | None
    """Its last segment, or the names of its parameters, wherever on the host: `specs` of every product, `?print`."""
    shared: tuple[str, ...]
    """Larger parts of the site, down to the host: its path with any parameters, its first folder."""
    is_repeating: bool
    """Whether its path has the same folders three times in a row: the mark of a wrong relative link."""

    @property
    def specific(self) -> tuple[str, ...]:
        """Return the patterns that alone can prove that a URL is worth a visit."""
        return (self.own,) if self.across is None else (self.own, self.across)


@lru_cache(maxsize=16_384)
def patterns_of(url: str) -> UrlPatterns:
    """Return the patterns of a canonical URL."""
    host = netloc_of(url)
    path, _, query = path_of(url).partition("?")
    names = "&".join(sorted({pair.partition("=")[0] for pair in query.split("&")})) if query else ""
    segments = [segment for segment in path.split("/") if segment]
    last = segments.pop() if segments else ""
    folders = _folders(segments)
    if is_repeating(path):
        return UrlPatterns(f"{host} repeating", None, (host,), is_repeating=True)
    folder = "/".join(["", *folders, ""])
    shared = (f"{host}/{folders[0]}/", host) if folders else (host,)
    if query:
        script = f"{host}{folder}{_form(last)}?"
        return UrlPatterns(script + names, f"{host} ?{names}", (script, *shared), is_repeating=False)
    form = _last_form(last)
    across = f"{host} {last}" if folders and form[:1] == "w" and not _DIGITS.search(last) else None
    return UrlPatterns(f"{host}{folder}|{form}", across, shared, is_repeating=False)


def is_repeating(path: str) -> bool:
    """Return whether a path has the same folders three times in a row, numbers apart (/code/1/1/1)."""
    found = _REPEATED.search(path)
    return found is not None and _LETTER.search(found[1]) is not None


def _folders(segments: list[str]) -> list[str]:
    """Return the forms of the first folders."""
    return [_form(segment) for segment in segments[:_FOLDERS]]


def _form(segment: str) -> str:
    """Return a segment with its digits as one, `0` for a number or date, `~` for what looks random."""
    if _VERSION.fullmatch(segment):
        return segment
    if _DATE.fullmatch(segment) or segment.isdecimal():
        return "0"
    is_random = looks_random(segment) or _BRACKETED.fullmatch(segment) is not None
    return "~" if is_random else _DIGITS.sub("0", segment)


def _last_form(segment: str) -> str:
    """Return the form of a last segment: a number, a random value, a word with a number, or any words."""
    if _NUMBERED.fullmatch(segment) and not looks_random(segment):
        return _DIGITS.sub("0", segment)
    extension = _EXTENSION.search(segment)
    ending = extension[0].lower() if extension else ""
    form = _form(segment.removesuffix(ending) if ending else segment)
    return (form if form in ("0", "~") else "w") + ending
