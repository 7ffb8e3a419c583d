"""Parses what a crawler needs of an HTML page, in one pass: links, directives, visible text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, chain

from selectolax.lexbor import LexborHTMLParser, LexborNode

from kb_pipeline.charset import Undecodable, decode
from kb_pipeline.fetch.web.parse.link_headers import LINK_RELATIONS, read_link_header
from kb_pipeline.fetch.web.parse.option_links import option_links
from kb_pipeline.fetch.web.parse.stubs import PageRedirect, Stub, refresh_of
from kb_pipeline.fetch.web.politeness.usage_directives import has_nofollow
from kb_pipeline.media_types import FEED_TYPES, media_type
from kb_pipeline.page_kind import kind_of
from kb_pipeline.script_shell import Place, asks_for_scripts, is_shell, is_unread, place_of
from kb_pipeline.urls import canonical_url
from kb_pipeline.xhtml import as_html

_TAG = re.compile(rb"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
_HREF = re.compile(rb"""<a\s[^>]{0,500}?href\s*=\s*["']?([^"'>\s]{1,2000})""", re.IGNORECASE)
_META = re.compile(rb"""<meta\s[^>]{0,1000}>""", re.IGNORECASE)
_ATTRIBUTE = re.compile(rb"""(name|content)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""", re.IGNORECASE)
_SHADOW_ROOT = r"<template(?=\s[^<>]{0,500}\bshadowrootmode)"
_SHADOW_ROOTS = re.compile(_SHADOW_ROOT, re.IGNORECASE), re.compile(_SHADOW_ROOT.encode(), re.IGNORECASE)
_VOID = frozenset(
    b"area base br col embed hr img input link meta param source track wbr p li td tr th dt dd option".split()
)
_MANY_TAGS = 20_000
_DEEP = 10_000
_NOT_PAGES = ("javascript:", "mailto:", "tel:", "data:", "blob:", "#")
_INVISIBLE = ["script", "style", "noscript", "template", "svg"]


@dataclass(frozen=True, slots=True)
class ParsedPage:
    """What a crawler needs of one page."""

    urls: tuple[str, ...] = ()
    """The canonical URLs it leads to, each once: links, frames, a refresh, the canonical address, translations, options
    that are addresses, `Link` headers. Empty when the page asks for nofollow."""
    invalid: int = 0
    """The number of http(s) links that are no valid URL."""
    over_limit: int = 0
    """The number of links beyond the limit."""
    feeds: tuple[str, ...] = ()
    """RSS and Atom feeds that the page or its headers name."""
    meta_tags: tuple[tuple[str, str], ...] = ()
    """Name (in lower case) and content of every meta element that has both."""
    text: str = ""
    """The visible text, a line for each text node."""
    is_shell: bool = False
    """Whether it is to be filled by scripts: it shows next to nothing before they run."""
    redirect: PageRedirect | None = None
    """Where it sends its readers on to, if it does."""


def parse_page(body: bytes, content_type: str, url: str, max_links: int, link_header: str = "") -> ParsedPage:
    """Parse a page found at `url`; `link_header` is the `Link` header of its response."""
    linked = read_link_header(link_header)
    header_urls = [target for href in linked.urls if (target := _resolved(href, url))]
    if _is_too_deep(body):
        return _read_flat(body, url, max_links, header_urls)
    tree = LexborHTMLParser(_with_shadow_roots(_decoded(body, content_type, url)))
    meta_tags = tuple(_meta_tags(tree))
    base = _base(tree, url)
    header_feeds = (target for href in linked.feeds if (target := _resolved(href, url)))
    page_feeds = (target for href in _feeds(tree) if (target := _resolved(href, base)))
    feeds = tuple(dict.fromkeys(chain(page_feeds, header_feeds)))
    hrefs = () if has_nofollow(meta_tags) else chain(_hrefs(tree), header_urls)
    urls, invalid, over_limit = _targets(hrefs, base, max_links)
    shell = _is_shell(tree)
    stub, canonical = Stub.of(tree), _resolved(_canonical(tree), base)
    tree.strip_tags(_INVISIBLE)
    text = tree.body.text(separator="\n") if tree.body is not None else ""
    href, how = stub.sends_on(text)
    target = _resolved(href, base)
    redirect = PageRedirect(target, how, target == canonical) if target and target != url else None
    return ParsedPage(urls, invalid, over_limit, feeds, meta_tags, text, shell, redirect)


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
    for node in tree.css("a[href], area[href], svg a"):
        href = (node.attributes.get("href") or node.attributes.get("xlink:href") or "").strip()
        if href and not href[:11].lower().startswith(_NOT_PAGES) and "nofollow" not in _relations(node):
            yield href
    for node in tree.css("link[href][rel], frame[src], iframe[src], meta[http-equiv][content]"):
        if href := _other_href(node).strip():
            yield href
    yield from option_links(tree)


def _other_href(node: LexborNode) -> str:
    """Return the target of an element that is no link for a reader but one for a crawler; empty if it has none."""
    attributes = node.attributes
    if node.tag == "meta":
        refresh = refresh_of(node)
        return refresh[1] if refresh else ""
    if node.tag != "link":
        href = attributes["src"] or ""
        return "" if href[:11].lower().startswith(_NOT_PAGES) else href
    relations = _relations(node)
    is_translation = "alternate" in relations and "hreflang" in attributes
    return (attributes["href"] or "") if is_translation or relations & LINK_RELATIONS else ""


def _relations(node: LexborNode) -> frozenset[str]:
    rel = node.attributes.get("rel")
    return frozenset(rel.lower().split()) if rel else frozenset()


def _canonical(tree: LexborHTMLParser) -> str:
    links = (node for node in tree.css("link[href][rel]") if "canonical" in _relations(node))
    return next((node.attributes["href"] or "" for node in links), "")


def _feeds(tree: LexborHTMLParser) -> Iterator[str]:
    for node in tree.css("link[href][rel][type]"):
        if "alternate" in _relations(node) and media_type(node.attributes["type"] or "") in FEED_TYPES:
            yield (node.attributes["href"] or "").strip()


def _meta_tags(tree: LexborHTMLParser) -> Iterator[tuple[str, str]]:
    for meta in tree.css("meta[name][content]"):
        attributes = meta.attributes
        yield (attributes["name"] or "").strip().lower(), attributes["content"] or ""


def _is_shell(tree: LexborHTMLParser) -> bool:
    if tree.css_first("script") is None or tree.body is None:
        return False
    asks = any(asks_for_scripts(message.text()) for message in tree.css("noscript"))
    return is_shell(_pieces(tree.body), asks=asks)


def _pieces(body: LexborNode) -> Iterator[tuple[str, Place]]:
    """Yield what `is_shell` reads of a body."""
    waiting = [(body, Place.BODY)]
    while waiting:
        node, outer = waiting.pop()
        if node.is_text_node:
            yield node.text_content or "", outer
        elif node.tag and not is_unread(node.tag, node.attributes.get):
            place = place_of(node.tag, node.attributes.get, outer)
            yield "", place
            waiting.extend((child, place) for child in reversed(list(node.iter(include_text=True))))


def _is_too_deep(body: bytes) -> bool:
    """Return whether elements nest so deep that the parser, quadratic in depth, would need minutes."""
    if body.count(b"<") < _MANY_TAGS:
        return False
    steps = (0 if tag[2].lower() in _VOID else -1 if tag[1] else 1 for tag in _TAG.finditer(body))
    return max(accumulate(steps), default=0) > _DEEP


def _read_flat(body: bytes, url: str, max_links: int, header_urls: Iterable[str]) -> ParsedPage:
    hrefs = (match[1].decode("utf-8", "replace") for match in _HREF.finditer(body))
    followed = chain((href for href in hrefs if not href[:11].lower().startswith(_NOT_PAGES)), header_urls)
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


def _with_shadow_roots(body: bytes | str) -> bytes | str:
    """Return the body with declarative shadow roots as plain elements, which the parser does not hide.

    Their end tags then close nothing: the element around them does.
    """
    if isinstance(body, str):
        return _SHADOW_ROOTS[0].sub("<div", body)
    return _SHADOW_ROOTS[1].sub(b"<div", body)


def _decoded(body: bytes, content_type: str, url: str) -> bytes | str:
    """Return the body as the cleaner reads it; ASCII and what is no text as it is, for the parser to make do with."""
    is_xml = kind_of(content_type, url, body) == "xhtml"
    if body.isascii() and not is_xml and b"\x1b" not in body:
        return body
    try:
        text = decode(body, content_type)
    except Undecodable:
        return body
    return as_html(text) if is_xml else text
