"""Turns XHTML into HTML that any parser of HTML reads the same way."""

from __future__ import annotations

import re
from html.entities import html5
from typing import Any

_CDATA_OR_ENTITY = re.compile(r"<!\[CDATA\[.*?(?:\]\]>|\Z)|<!--.*?(?:-->|\Z)|&([A-Za-z][A-Za-z0-9]{0,40};)", re.S)
_PROLOG = re.compile(
    r"\s*(?:<\?xml\b[^>]{0,500}\?>)?((?:\s+|<!--.*?-->|<\?.*?\?>)*+)"
    r"(?:<!DOCTYPE\b[^>\[]{0,500}(?:\[(?:[^\]\"']|\"[^\"]*\"|'[^']*')*+\]\s*)?>)?",
    re.I | re.S,
)
_OF_XML = frozenset({"amp;", "lt;", "gt;", "quot;", "apos;"})
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"


def as_html(text: str) -> str:
    """Return well-formed XHTML as HTML: without CDATA, prefixes and self-closed tags; anything else as it is.

    No DTD is read and no entity is defined by the page: the named characters of HTML are put in place beforehand.
    """
    from lxml import etree

    body = _PROLOG.sub("", text, count=1)
    parser: Any = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, remove_pis=True, encoding="utf-8"
    )
    try:
        root: Any = etree.fromstring(_CDATA_OR_ENTITY.sub(_character, body).encode("utf-8"), parser)
    except (etree.XMLSyntaxError, ValueError):
        return text
    if etree.QName(root).localname.lower() != "html":
        return text
    for element in root.iter(etree.Element):
        _without_namespaces(element)
    etree.cleanup_namespaces(root)
    return "<!DOCTYPE html>" + str(etree.tostring(root, method="html", encoding="unicode"))


def _character(match: re.Match[str]) -> str:
    """Return the character that HTML gives a name; what XML itself defines, and what is no entity, stays."""
    name = match[1]
    return match[0] if name is None or name in _OF_XML else html5.get(name, match[0])


def _without_namespaces(element: Any) -> None:  # noqa: ANN401 - an element of lxml
    element.tag = element.tag.rpartition("}")[2]
    for name in [name for name in element.attrib if name.startswith("{")]:
        value = element.attrib.pop(name)
        plain = "lang" if name == _LANGUAGE else name.rpartition("}")[2]
        if plain not in element.attrib:
            element.set(plain, value)
