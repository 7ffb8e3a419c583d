"""Finds the links of an HTML page that a crawler may follow."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from itertools import accumulate

from selectolax.lexbor import LexborHTMLParser, LexborNode

from kb_pipeline.fetch.web.urls import canonical_url

HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
PAGE_TYPES = HTML_TYPES | {"text/plain", "text/markdown"}
_CHARSET = re.compile(rb"""charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]+)""", re.IGNORECASE)
_PRESCAN_BYTES = 1024
_TAG = re.compile(rb"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
_HREF = re.compile(rb"""<a\s[^>]{0,500}?href\s*=\s*["']?([^"'>\s]{1,2000})""", re.IGNORECASE)
_VOID = frozenset(b"area base br col embed hr img input link meta param source track wbr p li td tr dt dd".split())
_MANY_TAGS = 20_000
_DEEP = 10_000
_NOT_PAGES = ("javascript:", "mailto:", "tel:", "data:", "blob:", "#")


@dataclass(frozen=True, slots=True)
class Links:
    """The followable links of a page, in page order and each once."""

    urls: tuple[str, ...]
    invalid: int
    """Links to http(s) that are no valid URL."""


def media_type(content_type: str) -> str:
    """`text/html` of `Text/HTML; charset=utf-8`."""
    return content_type.partition(";")[0].strip().lower()


def find_links(body: bytes, content_type: str, url: str) -> Links:
    """The links of a page found at `url`; none when it asks for nofollow."""
    if _is_too_deep(body):
        return _find_links_flat(body, url)
    tree = LexborHTMLParser(_decoded(body, content_type))
    if _page_says_nofollow(tree):
        return Links((), 0)
    base = _base(tree, url)
    found: dict[str, None] = {}
    invalid = 0
    for node in tree.css("a[href], area[href]"):
        href = (node.attributes.get("href") or "").strip()
        if not href or href[:11].lower().startswith(_NOT_PAGES) or _is_nofollow(node):
            continue
        if (target := _resolved(href, base)) is not None:
            found[target] = None
        elif href[:4].lower() == "http":
            invalid += 1
    return Links(tuple(found), invalid)


def _is_too_deep(body: bytes) -> bool:
    """Whether elements nest so deep that the parser, quadratic in depth, would need minutes."""
    if body.count(b"<") < _MANY_TAGS:
        return False
    steps = (0 if tag[2].lower() in _VOID else -1 if tag[1] else 1 for tag in _TAG.finditer(body))
    return max(accumulate(steps), default=0) > _DEEP


def _find_links_flat(body: bytes, url: str) -> Links:
    hrefs = (match[1].decode("utf-8", "replace") for match in _HREF.finditer(body))
    found = (_resolved(href, url) for href in hrefs if not href[:11].lower().startswith(_NOT_PAGES))
    return Links(tuple(dict.fromkeys(target for target in found if target)), 0)


def says_nofollow(directives: str) -> bool:
    """Whether robots directives (of a meta element or an X-Robots-Tag header) forbid following links."""
    words = re.split(r"[\s,:]+", directives.lower())
    return "nofollow" in words or "none" in words


def _page_says_nofollow(tree: LexborHTMLParser) -> bool:
    for meta in tree.css("meta[name][content]"):
        attributes = meta.attributes
        if (attributes["name"] or "").lower() == "robots" and says_nofollow(attributes["content"] or ""):
            return True
    return False


def _is_nofollow(node: LexborNode) -> bool:
    rel = node.attributes.get("rel")
    return rel is not None and "nofollow" in rel.lower().split()


def _base(tree: LexborHTMLParser, url: str) -> str:
    node = tree.css_first("base[href]")
    return (canonical_url(node.attributes["href"] or "", url) or url) if node is not None else url


def _resolved(href: str, base: str) -> str | None:
    bare = href.partition("#")[0]
    if not bare:
        return None
    # Only a query-only link needs the page itself as base; for the others the folder gives the same result,
    # and the canonicaliser's cache then answers for every page of that folder.
    path_end = base.find("?")
    folder = base[: base.rfind("/", 0, path_end if path_end >= 0 else len(base)) + 1]
    return canonical_url(bare, base if bare.startswith("?") else folder)


def _decoded(body: bytes, content_type: str) -> bytes | str:
    """The body, decoded when it is not UTF-8, which the parser reads by itself."""
    declared = _CHARSET.search(content_type.encode("latin-1", "replace")) or _CHARSET.search(body[:_PRESCAN_BYTES])
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return body.decode("utf-16", "replace")
    name = _codec(declared[1].decode("ascii")) if declared else "utf-8"
    return body if name in ("utf-8", "ascii") else body.decode(name, "replace")


def _codec(name: str) -> str:
    try:
        info = codecs.lookup(name)
    except LookupError:
        return "utf-8"
    return info.name if getattr(info, "_is_text_encoding", True) else "utf-8"
