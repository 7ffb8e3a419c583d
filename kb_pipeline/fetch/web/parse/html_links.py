"""Parses what a crawler needs of an HTML page, in one pass: links, directives, visible text."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate

from selectolax.lexbor import LexborHTMLParser, LexborNode

from kb_pipeline.fetch.web.http.media_types import media_type
from kb_pipeline.fetch.web.politeness.usage_directives import has_nofollow
from kb_pipeline.urls import canonical_url

_CHARSET = re.compile(rb"""charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]+)""", re.IGNORECASE)
_PRESCAN_BYTES = 1024
_TAG = re.compile(rb"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
_HREF = re.compile(rb"""<a\s[^>]{0,500}?href\s*=\s*["']?([^"'>\s]{1,2000})""", re.IGNORECASE)
_META = re.compile(rb"""<meta\s[^>]{0,1000}>""", re.IGNORECASE)
_ATTRIBUTE = re.compile(rb"""(name|content)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""", re.IGNORECASE)
_REFRESH = re.compile(r"""\s*[\d.]+\s*[;,]?\s*(?:url\s*=\s*)?["']?([^"'\s]+)""", re.IGNORECASE)
_VOID = frozenset(b"area base br col embed hr img input link meta param source track wbr p li td tr dt dd".split())
_MANY_TAGS = 20_000
_DEEP = 10_000
_NOT_PAGES = ("javascript:", "mailto:", "tel:", "data:", "blob:", "#")
_FEED_TYPES = frozenset({"application/rss+xml", "application/atom+xml"})
_LINK_RELATIONS = frozenset({"canonical", "next", "prev"})
"""The relations of `link` elements that are followed; the others do not lead to pages."""
_INVISIBLE = ["script", "style", "noscript", "template", "svg"]
_MOUNTS = "#root, #app, #__next, #__nuxt, #__layout, #q-app, #gatsby-focus-wrapper, #svelte, #application, app-root"
_MIN_WORDS = 50
_MAX_PLACEHOLDER_WORDS = 2


@dataclass(frozen=True, slots=True)
class ParsedPage:
    """What a crawler needs of one page."""

    urls: tuple[str, ...] = ()
    """The canonical URLs it leads to, in page order and each once: links, frames, a refresh, the canonical address,
    translations. Empty when the page asks for nofollow."""
    invalid: int = 0
    """The number of http(s) links that are no valid URL."""
    over_limit: int = 0
    """The number of links beyond the limit."""
    feeds: tuple[str, ...] = ()
    """RSS and Atom feeds that the page names."""
    meta_tags: tuple[tuple[str, str], ...] = ()
    """Name (in lower case) and content of every meta element that has both."""
    text: str = ""
    """The visible text, a line for each text node."""
    is_shell: bool = False
    """Whether it is to be filled by scripts: it shows next to no text, and has a mount point or asks for JavaScript."""


def parse_page(body: bytes, content_type: str, url: str, max_links: int) -> ParsedPage:
    """Parse a page found at `url`."""
    if _is_too_deep(body):
        return _read_flat(body, url, max_links)
    tree = LexborHTMLParser(_decoded(body, content_type))
    meta_tags = tuple(_meta_tags(tree))
    base = _base(tree, url)
    feeds = tuple(dict.fromkeys(target for href in _feeds(tree) if (target := _resolved(href, base))))
    hrefs = () if has_nofollow(meta_tags) else _hrefs(tree)
    urls, invalid, over_limit = _targets(hrefs, base, max_links)
    is_shell = _may_be_shell(tree)
    tree.strip_tags(_INVISIBLE)
    text = tree.body.text(separator="\n") if tree.body is not None else ""
    return ParsedPage(urls, invalid, over_limit, feeds, meta_tags, text, is_shell and _is_short(text))


def _targets(hrefs: Iterable[str], base: str, max_links: int) -> tuple[tuple[str, ...], int, int]:
    found: dict[str, None] = {}
    invalid = over_limit = 0
    for href in hrefs:
        if len(found) >= max_links:
            over_limit += 1
        elif (target := _resolved(href, base)) is not None:
            found[target] = None
        elif href[:4].lower() == "http":
            invalid += 1
    return tuple(found), invalid, over_limit


def _hrefs(tree: LexborHTMLParser) -> Iterator[str]:
    for node in tree.css("a[href], area[href]"):
        href = (node.attributes.get("href") or "").strip()
        if href and not href[:11].lower().startswith(_NOT_PAGES) and "nofollow" not in _relations(node):
            yield href
    for node in tree.css("link[href][rel], frame[src], iframe[src], meta[http-equiv][content]"):
        if href := _other_href(node).strip():
            yield href


def _other_href(node: LexborNode) -> str:
    """Return the target of an element that is no link for a reader but one for a crawler; empty if it has none."""
    attributes = node.attributes
    if node.tag == "meta":
        is_refresh = (attributes["http-equiv"] or "").lower() == "refresh"
        match = _REFRESH.match(attributes["content"] or "") if is_refresh else None
        return match[1] if match else ""
    if node.tag != "link":
        href = attributes["src"] or ""
        return "" if href[:11].lower().startswith(_NOT_PAGES) else href
    relations = _relations(node)
    is_translation = "alternate" in relations and "hreflang" in attributes
    return (attributes["href"] or "") if is_translation or relations & _LINK_RELATIONS else ""


def _relations(node: LexborNode) -> frozenset[str]:
    rel = node.attributes.get("rel")
    return frozenset(rel.lower().split()) if rel else frozenset()


def _feeds(tree: LexborHTMLParser) -> Iterator[str]:
    for node in tree.css("link[href][rel][type]"):
        if "alternate" in _relations(node) and media_type(node.attributes["type"] or "") in _FEED_TYPES:
            yield (node.attributes["href"] or "").strip()


def _meta_tags(tree: LexborHTMLParser) -> Iterator[tuple[str, str]]:
    for meta in tree.css("meta[name][content]"):
        attributes = meta.attributes
        yield (attributes["name"] or "").strip().lower(), attributes["content"] or ""


def _may_be_shell(tree: LexborHTMLParser) -> bool:
    if tree.css_first("script") is None:
        return False
    has_mount_point = any(not mount.text(strip=True) for mount in tree.css(_MOUNTS))
    asks_for_javascript = any("javascript" in (element.html or "").lower() for element in tree.css("noscript"))
    body = tree.body
    return has_mount_point or asks_for_javascript or body is None or _shows_nothing(body)


def _shows_nothing(body: LexborNode) -> bool:
    # The text includes that of scripts: whether a page with more text is a shell is decided by _is_short.
    texts = (node.text(deep=False) for node in body.traverse() if node.tag not in _INVISIBLE)
    words = 0
    for text in texts:
        words += len(text.split())
        if words > _MAX_PLACEHOLDER_WORDS:
            return False
    return True


def _is_short(text: str) -> bool:
    return len(text.split()) < _MIN_WORDS


def _is_too_deep(body: bytes) -> bool:
    """Return whether elements nest so deep that the parser, quadratic in depth, would need minutes."""
    if body.count(b"<") < _MANY_TAGS:
        return False
    steps = (0 if tag[2].lower() in _VOID else -1 if tag[1] else 1 for tag in _TAG.finditer(body))
    return max(accumulate(steps), default=0) > _DEEP


def _read_flat(body: bytes, url: str, max_links: int) -> ParsedPage:
    hrefs = (match[1].decode("utf-8", "replace") for match in _HREF.finditer(body))
    followed = (href for href in hrefs if not href[:11].lower().startswith(_NOT_PAGES))
    meta_tags = tuple(_flat_meta_tags(body))
    urls, invalid, over_limit = _targets(() if has_nofollow(meta_tags) else followed, url, max_links)
    return ParsedPage(urls, invalid, over_limit, meta_tags=meta_tags)


def _flat_meta_tags(body: bytes) -> Iterator[tuple[str, str]]:
    for tag in _META.finditer(body):
        found = {
            match[1].lower(): (match[2] or match[3] or match[4] or b"").decode("utf-8", "replace")
            for match in _ATTRIBUTE.finditer(tag[0])
        }
        if b"name" in found and b"content" in found:
            yield found[b"name"].strip().lower(), found[b"content"]


def _base(tree: LexborHTMLParser, url: str) -> str:
    node = tree.css_first("base[href]")
    return (canonical_url(node.attributes["href"] or "", url) or url) if node is not None else url


def _resolved(href: str, base: str) -> str | None:
    bare = href.partition("#")[0]
    if not bare:
        return None
    # Only a query-only link needs the page itself as base; for the others the folder gives the same result, and the
    # cache of canonical_url then serves every page of that folder.
    path_end = base.find("?")
    folder = base[: base.rfind("/", 0, path_end if path_end >= 0 else len(base)) + 1]
    return canonical_url(bare, base if bare.startswith("?") else folder)


def _decoded(body: bytes, content_type: str) -> bytes | str:
    """Return the body, decoded unless it is UTF-8, which the parser reads by itself."""
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
