"""Reads the `Link` header of a response (RFC 8288): where it leads, and which feeds it names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kb_pipeline.media_types import FEED_TYPES, media_type

LINK_RELATIONS = frozenset(
    [
        *("canonical", "next", "prev", "previous", "first", "last", "up", "top", "start", "contents", "toc", "index"),
        *("glossary", "chapter", "section", "subsection", "appendix"),
    ]
)
"""The relations that lead from a page to another one, those of HTML 4 with them; others lead to styles, icons, data."""
_LINK = re.compile(
    r"""<\s*([^<>]{1,4096}?)\s*>((?:\s*;\s*[\w!#$&+.^`|~*-]{1,100}(?:\s*=\s*(?:"[^"]{0,2000}"|[^\s;,"]{0,2000}))?)*)"""
)
_PARAMETER = re.compile(r""";\s*([\w!#$&+.^`|~*-]{1,100})(?:\s*=\s*(?:"([^"]{0,2000})"|([^\s;,"]{0,2000})))?""")


@dataclass(frozen=True, slots=True)
class LinkHeader:
    """What one or several `Link` headers say, as it is written there."""

    urls: tuple[str, ...] = ()
    """Links to other pages."""
    feeds: tuple[str, ...] = ()


def read_link_header(value: str) -> LinkHeader:
    """Parse the value of a `Link` header, several joined by commas; what is malformed leads nowhere.

    A link with an `anchor` speaks of another page and is left out, as is one that asks not to be followed.
    """
    links = list(_links(value)) if "<" in value else []
    pages = (url for url, parameters in links if _leads_to_page(parameters))
    return LinkHeader(tuple(pages), tuple(url for url, parameters in links if _names_feed(parameters)))


def _links(value: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    for link in _LINK.finditer(value):
        parameters: dict[str, str] = {}
        for found in _PARAMETER.finditer(link[2]):
            parameters.setdefault(found[1].lower(), found[2] or found[3] or "")
        if "anchor" not in parameters and "nofollow" not in _relations(parameters):
            yield link[1], parameters


def _relations(parameters: Mapping[str, str]) -> frozenset[str]:
    return frozenset(parameters.get("rel", "").lower().split())


def _leads_to_page(parameters: Mapping[str, str]) -> bool:
    relations = _relations(parameters)
    return bool(relations & LINK_RELATIONS) or ("alternate" in relations and "hreflang" in parameters)


def _names_feed(parameters: Mapping[str, str]) -> bool:
    return "alternate" in _relations(parameters) and media_type(parameters.get("type", "")) in FEED_TYPES
