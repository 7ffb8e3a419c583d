"""Turns a Markdown file into the page that a site generator would make of it, to be cleaned as pages are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape

from kb_pipeline.clean.front_matter import split_front_matter

_MAX_CHARS = 2_000_000
"""A longer file is taken as it is: Markdown takes a second a megabyte."""

_TITLE = ("title", "name", "sidebar_label", "pagetitle")
_LANGUAGE = ("lang", "language", "locale")
_PUBLISHED = ("date", "published", "publishdate", "pubdate", "pub_date", "created", "created_at", "date_published")
_MODIFIED = (
    "lastmod", "updated", "modified", "last_modified", "last_modified_at", "updated_at", "last_updated",
    "date_modified", "lastupdated", "ms.date",
)  # fmt: skip
_ADDRESS = ("canonical", "canonical_url", "canonicalurl")
_LOOKED_AT_CHARS = 20_000
_MAX_NESTING = 100
_FIRST_HEADING = re.compile(r"\s*(?:#[ \t]+\S[^\n]*\n\s*\n|[^\s#][^\n]{0,200}\n={3,}[ \t]*\n)")
_MARKED = re.compile(r"^#{2,6}[ \t]+\S|\]\([^()\s]{1,500}\)|^(?:```|~~~)", re.M)


def as_page(text: str) -> str | None:
    """Return the file as HTML, its front matter as metadata of the head; None for one too long to be parsed."""
    if len(text) > _MAX_CHARS:
        return None
    fields, body = split_front_matter(text)
    return f"<!DOCTYPE html><html{_language(fields)}><head>{_head(fields)}</head><body>{_rendered(body)}</body></html>"


def is_markdown(text: str) -> bool:
    """Return whether a text of unknown kind is Markdown: it begins with a heading, and has more than comments would."""
    start = text[:_LOOKED_AT_CHARS]
    return _FIRST_HEADING.match(start) is not None and _MARKED.search(start) is not None


def _rendered(text: str) -> str:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"maxNesting": _MAX_NESTING}).enable(["table", "strikethrough"])
    return str(parser.render(text))


def _head(fields: Mapping[str, str]) -> str:
    title, address = _first(fields, _TITLE), _first(fields, _ADDRESS)
    metas = {
        "article:published_time": _first(fields, _PUBLISHED),
        "article:modified_time": _first(fields, _MODIFIED),
        "description": _first(fields, ("description", "summary")),
    }
    parts = [f"<title>{escape(title)}</title>" if title else ""]
    parts += [f'<meta name="{name}" content="{escape(value)}">' for name, value in metas.items() if value]
    return "".join(parts) + (f'<link rel=canonical href="{escape(address)}">' if address else "")


def _language(fields: Mapping[str, str]) -> str:
    language = _first(fields, _LANGUAGE)
    return f' lang="{escape(language)}"' if language else ""


def _first(fields: Mapping[str, str], names: Sequence[str]) -> str:
    return next((fields[name] for name in names if fields.get(name)), "")
