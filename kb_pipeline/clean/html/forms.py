"""Tells forms that only do something (search, log-in, newsletter, comment) from those that hold a page's content."""

from __future__ import annotations

from typing import Any

from kb_pipeline.clean.html.fields import is_editable
from kb_pipeline.clean.html.letters import Letters

Element = Any

_PROSE = 200
"""Letters beside labels and buttons from which a form holds more than what it asks for."""
_SEARCH_NAMES = frozenset({"q", "s", "query", "search", "keyword", "keywords", "searchword", "suche"})


def is_for_commands(form: Element, letters: Letters) -> bool:
    """Return whether a form is for search, log-in, sign-up or a comment, and has no content beside that."""
    if next(form.iter("h1", "main", "article", "table", "pre"), None) is not None:
        return False
    fields = [field for field in form.iter("input", "select", "textarea") if is_editable(field)]
    if not fields or _letters_beside(form, letters) >= _PROSE:
        return False
    return form.get("role") == "search" or any(_is_command(field, len(fields)) for field in fields)


def labels_of_fields(form: Element) -> list[Element]:
    """Return the labels of fields that a reader is to fill in."""
    ids = {field.get("id"): field for field in form.iter("input", "select", "textarea") if field.get("id")}
    found = []
    for label in form.iter("label"):
        named = ids.get(label.get("for"))
        inner = next(label.iter("input", "select", "textarea"), None)
        if any(field is not None and is_editable(field) for field in (named, inner)):
            found.append(label)
    return found


def _is_command(field: Element, count: int) -> bool:
    kind, name = (field.get("type") or "").lower(), (field.get("name") or "").lower()
    if kind == "password" or (field.tag == "textarea" and "comment" in name):
        return True
    return (kind in ("search", "email") or name in _SEARCH_NAMES) and count <= 3


def _letters_beside(form: Element, letters: Letters) -> int:
    aside = sum(letters.text(part) for part in form.iter("label", "button", "option", "textarea", "legend"))
    return letters.unlinked(form) - aside
