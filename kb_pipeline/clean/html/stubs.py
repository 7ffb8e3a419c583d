"""Finds where a page that is none sends its readers on to: of a file, or of a page from before its crawl knew."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any
from urllib.parse import urldefrag, urljoin

from kb_pipeline.page_redirects import (
    LONGEST_DELAY_S,
    MOST_REFRESHES,
    MOST_SCRIPTS,
    MOST_WORDS,
    goes_on,
    read_refresh,
    refresh_target,
    stub_target,
)

Element = Any

SENT_ON = "redirect"
"""The reason code of such a page."""
_MOST_COMPUTED_WORDS = 25
_WORD = re.compile(r"\w+")
_LEAVES = re.compile(
    r"redirect|has moved|please wait|click here|weiterleit|weitergeleitet|redirig|redirec|reindirizz|doorverwe"
    r"|przekierow|перенаправ|переадрес|omdiriger|yönlendir|跳转|跳轉|重定向|転送|リダイレクト|리디렉션",
    re.IGNORECASE,
)


def redirect_of(tree: Element, url: str, base_url: str) -> str | None:
    """Return in words where a page at `url` sends its readers on to; None for other pages.

    The rules are those of the crawl: a refresh in time, or on a page with next to no text a script.
    """
    refreshes = list(islice(_refreshes(tree), MOST_REFRESHES))
    target = refresh_target(refreshes)
    if not target and len(scripts := _scripts(tree)) <= MOST_SCRIPTS:
        words = list(islice(_words(tree), MOST_WORDS + 1))
        if len(words) <= MOST_WORDS and goes_on(scripts):
            target = stub_target(refreshes, scripts)
            if not target and len(words) <= _MOST_COMPUTED_WORDS and _LEAVES.search(" ".join(words)):
                return "a place that its script computes"
    resolved = _resolved(target, base_url)
    return resolved if resolved and resolved != urldefrag(url).url else None


def _resolved(href: str, base_url: str) -> str:
    try:
        found = urldefrag(urljoin(base_url, href)).url if href and not href.startswith("#") else ""
    except ValueError:
        return ""
    return found if found.startswith(("http://", "https://", "file://")) else ""


def _refreshes(tree: Element) -> Iterator[tuple[bool, str]]:
    """Yield the targets of refreshes in time, each with whether it is for readers without scripts only."""
    for meta in tree.iter("meta"):
        if (meta.get("http-equiv") or "").strip().lower() == "refresh":
            refresh = read_refresh(meta.get("content") or "")
            if refresh is not None and refresh[0] <= LONGEST_DELAY_S:
                yield next(meta.iterancestors("noscript"), None) is not None, refresh[1]


def _scripts(tree: Element) -> list[str]:
    body = tree.find("body")
    onload = (body.get("onload") or "") if body is not None else ""
    return [onload, *(script.text or "" for script in islice(tree.iter("script"), MOST_SCRIPTS))]


def _words(tree: Element) -> Iterator[str]:
    for element in tree.iter():
        if element.tag not in ("script", "style", "noscript", "template", "title") and element.text:
            yield from _WORD.findall(element.text)
        if element.tail:
            yield from _WORD.findall(element.tail)
