"""Reads the metadata of a page: title, canonical URL, dates, language, robots directives."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import date
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from kb_pipeline.clean.html.inline import Element, flat_text
from kb_pipeline.urls import canonical_url

_PUBLISHED = (
    "article:published_time", "datepublished", "date", "dc.date", "dcterms.created", "dcterms.issued",
    "dc.date.issued", "citation_publication_date", "publish_date", "publication_date", "sailthru.date", "pubdate",
)  # fmt: skip
_MODIFIED = (
    "article:modified_time",
    "og:updated_time",
    "datemodified",
    "last-modified",
    "dcterms.modified",
    "dc.date.modified",
)
_ISO_DATE = re.compile(r"\s*(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?!\d)")
_MAX_TITLE_CHARS = 500
_MAX_TAG_CHARS = 35
_MAX_TRANSLATIONS = 200
_MAX_JSON_CHARS = 500_000


def title_of(tree: Element, url: str) -> str:
    """Return the page's title, else og:title, the first heading, or the last part of its URL."""
    title = tree.find("head/title")
    if title is None:
        title = next((found for found in tree.iter("title") if found.getparent().tag != "svg"), None)
    heading = next(tree.iter("h1"), None)
    candidates = (title, _meta(tree, ("og:title",)), heading)
    for candidate in candidates:
        text = candidate if isinstance(candidate, str) else flat_text(candidate) if candidate is not None else ""
        if text.strip():
            return " ".join(text.split())[:_MAX_TITLE_CHARS]
    return title_from_url(url)


def title_from_url(url: str) -> str:
    """Return the last non-empty part of a URL; never empty."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url[:_MAX_TITLE_CHARS]
    path = [part for part in unquote(parts.path, errors="replace").split("/") if part.strip()]
    return (path[-1] if path else parts.netloc or url or "untitled")[:_MAX_TITLE_CHARS]


def base_of(tree: Element, url: str) -> str:
    """Return the base URL of relative links."""
    base = next(tree.iter("base"), None)
    href = (base.get("href") or "").strip() if base is not None else ""
    try:
        return str(urljoin(url, href))
    except ValueError:
        return url


def canonical_of(tree: Element, base_url: str) -> str | None:
    """Return the canonical URL that the page declares, spelled as keys are; None without a valid one."""
    for link in tree.iter("link"):
        if "canonical" in (link.get("rel") or "").lower().split() and (href := (link.get("href") or "").strip()):
            return canonical_url(href, base_url)
    return None


def translations_of(tree: Element, base_url: str) -> tuple[tuple[str, str], ...]:
    """Return the translations that the page declares: pairs of hreflang (in lower case) and URL, by hreflang."""
    found: dict[str, str] = {}
    for link in tree.iter("link"):
        language = (link.get("hreflang") or "").strip().lower()
        if language and len(language) <= _MAX_TAG_CHARS and "alternate" in (link.get("rel") or "").lower().split():
            url = canonical_url((link.get("href") or "").strip(), base_url)
            if url is not None and len(found) < _MAX_TRANSLATIONS:
                found.setdefault(language, url)
    return tuple(sorted(found.items()))


def dates_of(tree: Element) -> tuple[str | None, str | None]:
    """Return when the page was published and modified by its metadata, as ISO dates; the text is not searched."""
    linked = list(linked_data(tree))
    return (
        _first_valid_date([_meta(tree, (name,)) for name in _PUBLISHED[:2]] + _values(linked, "datePublished"))
        or _first_valid_date([*_microdata(tree, "datePublished"), *(_meta(tree, (name,)) for name in _PUBLISHED[2:])]),
        _first_valid_date([_meta(tree, (name,)) for name in _MODIFIED[:2]] + _values(linked, "dateModified"))
        or _first_valid_date([*_microdata(tree, "dateModified"), *(_meta(tree, (name,)) for name in _MODIFIED[2:])]),
    )


def language_of(tree: Element) -> str:
    """Return the language that the page declares, as written; empty if it declares none."""
    declared = tree.get("lang") or tree.get("{http://www.w3.org/XML/1998/namespace}lang") or tree.get("xml:lang")
    if not declared and (body := tree.find("body")) is not None:
        declared = body.get("lang") or body.get("xml:lang")
    return (declared or _meta(tree, ("content-language", "og:locale")) or "").strip()[:35]


def forbids_indexing(tree: Element) -> bool:
    """Return whether a robots meta tag forbids indexing."""
    for meta in tree.iter("meta"):
        if (meta.get("name") or "").strip().lower() == "robots":
            words = re.split(r"[\s,;]+", (meta.get("content") or "").lower())
            if "noindex" in words or "none" in words:
                return True
    return False


def _meta(tree: Element, names: tuple[str, ...]) -> str | None:
    """Return the content of the first meta tag with one of these names and any content."""
    for meta in tree.iter("meta"):
        name = meta.get("name") or meta.get("property") or meta.get("itemprop") or meta.get("http-equiv") or ""
        if name.strip().lower() in names and (content := (meta.get("content") or "").strip()):
            return str(content)
    return None


def _microdata(tree: Element, name: str) -> Iterator[str | None]:
    """Yield the dates of elements marked up with microdata."""
    for element in tree.xpath("//*[@itemprop=$name]", name=name):
        yield element.get("datetime") or element.get("content") or flat_text(element)


def linked_data(tree: Element) -> Iterator[dict[str, Any]]:
    """Yield the objects of the page's JSON-LD; invalid JSON is skipped."""
    for script in tree.iter("script"):
        source = script.text or ""
        if "ld+json" in (script.get("type") or "").lower() and len(source) <= _MAX_JSON_CHARS:
            try:
                yield from _objects(json.loads(source, strict=False))
            except (ValueError, RecursionError):
                continue


def _objects(value: object, depth: int = 0) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = value.get("@graph")
    if isinstance(value, list) and depth < 5:
        for item in value:
            yield from _objects(item, depth + 1)


def _values(objects: list[dict[str, Any]], name: str) -> list[str | None]:
    return [value for item in objects if isinstance(value := item.get(name), str)]


def _first_valid_date(candidates: list[str | None]) -> str | None:
    for candidate in candidates:
        if candidate and (found := _ISO_DATE.match(candidate)):
            try:
                return date(int(found[1]), int(found[2]), int(found[3])).isoformat()
            except ValueError:
                continue
    return None
