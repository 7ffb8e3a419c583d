"""Decides which URLs belong to a source: the scope of its start URLs and the path globs within it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from kb_pipeline.fetch.web.rules import CrawlRules
from kb_pipeline.urls import canonical_url, folder_of, hostname_of, netloc_of, normal_escapes, origin_of, path_of

if TYPE_CHECKING:
    import tldextract

_MAX_WILDCARDS = 8
_KEPT_IN_GLOBS = "/*%-._~!$&'()+,;=:@"


class Scope:
    """The hosts, domains or folders of the start URLs, and of what they redirect to.

    A start URL that redirects (to https, to www) adds the place of its target, since nothing would be crawled
    otherwise; `admit` is called only for that. Ports matter, schemes do not.
    """

    def __init__(self, rules: CrawlRules) -> None:
        self._kind = rules.scope
        self._places: set[str] = set()
        self.origins: dict[str, None] = {}
        """Those of the start URLs and of what they redirect to, in this order."""
        for url in rules.start_urls:
            self.admit(canonical_url(url) or url)

    def admit(self, url: str) -> None:
        """Add the host, domain or folder of `url` to the scope."""
        if canonical_url(url):
            self._places.add(self._place(url))
            self.origins[origin_of(url)] = None

    def covers(self, url: str) -> bool:
        """Return whether a canonical URL is in scope."""
        if self._kind == "prefix":
            spelled = netloc_of(url) + path_of(url)
            return any(spelled.startswith(place) for place in self._places)
        return self._place(url) in self._places

    def is_sibling(self, url: str) -> bool:
        """Return whether another host of the same site has this URL.

        That is one with another port, with another name in the same registrable domain (`www.`), or, as long as the
        site is on this machine, any name of it.
        """
        host, place = hostname_of(url), netloc_of(url)
        starts = [(hostname_of(origin), netloc_of(origin)) for origin in self.origins]
        return all(place != own for _, own in starts) and any(_are_siblings(host, name) for name, _ in starts)

    def _place(self, url: str) -> str:
        if self._kind == "domain":
            return registrable_domain(hostname_of(url))
        if self._kind == "prefix":
            return netloc_of(url) + folder_of(url)
        return netloc_of(url)


def _are_siblings(host: str, other: str) -> bool:
    if _is_loopback(host) and _is_loopback(other):
        return True
    # The names of an intranet have no registrable domain.
    names = {name.removeprefix("www.") for name in (host, other)}
    return len(names) == 1 or registrable_domain(host) == registrable_domain(other)


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "[::1]") or re.fullmatch(r"127(?:\.\d+){3}", host) is not None


class PathFilter:
    """The include and exclude globs of a source; exclude wins."""

    def __init__(self, include: Iterable[str], exclude: Iterable[str]) -> None:
        self._include = [compile_glob(glob) for glob in include]
        self._exclude = [compile_glob(glob) for glob in exclude]

    def is_excluded(self, url: str) -> bool:
        """Return whether an exclude glob matches the path."""
        return _any_match(self._exclude, url)

    def is_included(self, url: str) -> bool:
        """Return whether the globs include the path."""
        return not self.is_excluded(url) and (not self._include or _any_match(self._include, url))

    def deciding_glob(self, url: str) -> tuple[Literal["include", "exclude"], int | None] | None:
        """Return field and number of the glob that decides; None as number where none of `include` matches."""
        if (number := _first_match(self._exclude, url)) is not None:
            return "exclude", number
        return ("include", _first_match(self._include, url)) if self._include else None


def _any_match(globs: list[re.Pattern[str]], url: str) -> bool:
    return _first_match(globs, url) is not None


def _first_match(globs: list[re.Pattern[str]], url: str) -> int | None:
    if not globs:
        return None
    path = path_of(url).partition("?")[0]
    return next((number for number, glob in enumerate(globs) if glob.fullmatch(path)), None)


def in_scope(url: str, rules: CrawlRules) -> bool:
    """Return whether a URL is in the scope of the rules and matches their globs, before any redirect is known."""
    spelled = canonical_url(url)
    if spelled is None or not Scope(rules).covers(spelled):
        return False
    return PathFilter(rules.include, rules.exclude).is_included(spelled)


def glob_problem(glob: str) -> str | None:
    """Return what is wrong with a path glob, or None."""
    if not glob.startswith(("/", "*")):
        return "a path glob starts with / or *, as in /guide/**"
    if "***" in glob:
        return "use ** for any path and * for any part of one segment"
    if "?" in glob or "#" in glob:
        return "globs match the path alone, without query and fragment"
    if glob.count("*") - glob.count("**") > _MAX_WILDCARDS:
        return f"at most {_MAX_WILDCARDS} wildcards"
    return None


@lru_cache(maxsize=1024)
def compile_glob(glob: str) -> re.Pattern[str]:
    """Compile a path glob; raise ValueError if it is invalid."""
    if problem := glob_problem(glob):
        raise ValueError(f"{glob!r}: {problem}")
    spelled = normal_escapes(quote(glob, safe=_KEPT_IN_GLOBS))
    # "/guide/**" also means /guide itself: people write it for the folder and everything below.
    tail = "(?:/.*)?" if spelled.endswith("/**") else ""
    pieces = re.split(r"(\*\*|\*)", spelled.removesuffix("/**") if tail else spelled)
    return re.compile("".join(_glob_piece(piece) for piece in pieces) + tail, re.DOTALL)


def _glob_piece(piece: str) -> str:
    return {"**": ".*", "*": "[^/]*"}.get(piece) or re.escape(piece)


@lru_cache(maxsize=4096)
def registrable_domain(host: str) -> str:
    """Return the registrable domain (example.co.uk) by the public suffix list, else the host itself."""
    return _suffixes()(host).top_domain_under_public_suffix or host


@lru_cache(maxsize=1)
def _suffixes() -> tldextract.TLDExtract:
    import tldextract

    # From the snapshot in the package, never the network; with private suffixes, so that one github.io site is not all
    # of github.io.
    return tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None, include_psl_private_domains=True)
