"""Unwraps elements that are nested too deep, so that recursion over a page stays shallow."""

from __future__ import annotations

from kb_pipeline.clean.html.code import VERBATIM
from kb_pipeline.clean.html.inline import Element
from kb_pipeline.clean.html.lists import LISTS
from kb_pipeline.clean.html.tables import table_part

_WRAPPER_DEPTH = 60
_CONTAINER_DEPTH = 100
_TABLE_DEPTH = 115
_LEAF_DEPTH = 125
"""How deep each kind of element may be nested in kept ones: about four calls a level must fit on Python's stack."""

_WRAPPERS_TEXT = "div span section article main center font form fieldset figure header footer aside"
_WRAPPERS = frozenset(_WRAPPERS_TEXT.split())
_CONTAINERS = LISTS | {"blockquote", "li", "dl", "dt", "dd", "details"}
_SPACED_TEXT = "p pre h1 h2 h3 h4 h5 h6 tr td th caption address hr summary table"
_SPACED = _WRAPPERS - {"span", "font"} | _CONTAINERS | VERBATIM | frozenset(_SPACED_TEXT.split())


def flatten(root: Element) -> None:
    """Unwrap what is nested too deep: first what only groups, far deeper also lists and quotes; no text is lost.

    Tables, code and headings stay what they are below any number of `div` elements.
    """
    _part_terms(root)
    depths = {root: 0}
    too_deep = []
    for element in root.iterdescendants():
        depth = depths[element.getparent()] + 1
        if depth > _WRAPPER_DEPTH and depth > _depth_of(element):
            too_deep.append(element)
            depth -= 1
        depths[element] = depth
    for element in too_deep:
        if element.tag in _SPACED:
            element.text = f" {element.text or ''}"
            element.tail = f" {element.tail or ''}"
        element.drop_tag()


def _part_terms(root: Element) -> None:
    """Put terms side by side that the parser nests because their end tags are left out."""
    for term in list(root.iter("dt")):
        parent = term.getparent()
        if parent is not None and parent.tag == "dt":
            parent.addnext(term)


def _depth_of(element: Element) -> int:
    """Return how deep an element may be nested."""
    if table_part(element) or element.get("role") == "heading":
        return _TABLE_DEPTH
    if element.tag in _WRAPPERS:
        return _WRAPPER_DEPTH
    return _CONTAINER_DEPTH if element.tag in _CONTAINERS else _LEAF_DEPTH
