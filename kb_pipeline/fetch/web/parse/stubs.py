"""Finds where a page that is none sends its readers on to: by a refresh, or by a script that does nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from selectolax.lexbor import LexborHTMLParser, LexborNode

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

_METAS = "meta[http-equiv][content]"
_MOST_PARENTS = 100
_MOST_CHARS = 1000


@dataclass(frozen=True, slots=True)
class PageRedirect:
    """How a page sends its readers on."""

    target: str
    """A canonical URL, never that of the page."""
    how: str
    """In words."""
    is_canonical: bool
    """Whether the page says itself that its address is the target's: it has moved for good."""


@dataclass(frozen=True, slots=True)
class Stub:
    """What a page has that may send its readers on."""

    refreshes: Sequence[tuple[bool, str]]
    """Targets of refreshes that come in time, each with whether it is for readers without scripts only."""
    scripts: Sequence[str]
    """None of a page that has many: it is no stub."""

    @classmethod
    def of(cls, tree: LexborHTMLParser) -> Stub:
        """Read a page that still has its scripts."""
        return cls(list(islice(_refreshes(tree), MOST_REFRESHES)), _scripts(tree))

    def sends_on(self, text: str) -> tuple[str, str]:
        """Return where a page with this visible text sends its readers on to, as written, and how in words.

        Both are empty where it does not. What stands in a `noscript` is for readers without scripts; it is a redirect
        if those with scripts are sent on too.
        """
        if refresh := refresh_target(self.refreshes):
            return refresh, "a meta refresh"
        if len(text) > _MOST_CHARS or len(text.split()) > MOST_WORDS or not goes_on(self.scripts):
            return "", ""
        return stub_target(self.refreshes, self.scripts), "a script"


def refresh_of(node: LexborNode) -> tuple[int, str] | None:
    """Return the seconds and the target, as written, of a meta element that is a refresh."""
    attributes = node.attributes
    is_refresh = (attributes["http-equiv"] or "").strip().lower() == "refresh"
    return read_refresh(attributes["content"] or "") if is_refresh else None


def _refreshes(tree: LexborHTMLParser) -> Iterator[tuple[bool, str]]:
    for node in tree.css(_METAS):
        refresh = refresh_of(node)
        if refresh is not None and refresh[0] <= LONGEST_DELAY_S:
            yield any(parent.tag == "noscript" for parent in islice(_parents(node), _MOST_PARENTS)), refresh[1]


def _parents(node: LexborNode) -> Iterator[LexborNode]:
    parent = node.parent
    while parent is not None:
        yield parent
        parent = parent.parent


def _scripts(tree: LexborHTMLParser) -> list[str]:
    scripts, body = tree.css("script"), tree.body
    onload = (body.attributes.get("onload") or "") if body is not None else ""
    return [onload, *(script.text() for script in scripts)] if len(scripts) <= MOST_SCRIPTS else []
