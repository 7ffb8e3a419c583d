"""Reads what a page says for machines, in JSON-LD, microdata and RDFa Lite, as objects of schema.org.

Every object is a mapping of properties to what they were given: strings, numbers, objects, or lists of those. Types and
properties are named without vocabulary (`Product`, not `https://schema.org/Product`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from kb_pipeline.clean.html.metadata import linked_data
from kb_pipeline.clean.html.text_start import text_start

Element = Any
Object = dict[str, Any]

_MAX_ELEMENTS = 5_000
_MAX_LEVELS = 60
_MAX_TEXT = 5_000
_MAX_TEXTS = 200
_UNSTORABLE = re.compile("[\\x00-\\x08\\x0e-\\x1b\\x7f\\ud800-\\udfff]")
"""Controls, and halves of surrogate pairs, which JSON may escape but UTF-8 cannot hold."""
_LINKS = {"a": "href", "link": "href", "area": "href", "img": "src", "source": "src", "time": "datetime"}


def objects_of(tree: Element) -> list[Object]:
    """Return the objects that a page describes, those of JSON-LD first, without those that are part of another."""
    found = [_named(item) for item in linked_data(tree)]
    found += _marked_up(tree, "itemscope", "itemtype", "itemprop")
    found += _marked_up(tree, "typeof", "typeof", "property")
    return found


def types_of(item: Mapping[str, Any]) -> set[str]:
    """Return the names of an object's types."""
    declared = item.get("@type")
    listed = declared if isinstance(declared, list) else [declared]
    return {_last_part(name) for name in listed if isinstance(name, str)}


def values_of(item: Mapping[str, Any], name: str) -> list[Any]:
    """Return what an object says of a property."""
    value = item.get(name)
    return [] if value is None else value if isinstance(value, list) else [value]


def text_of(value: object) -> str:
    """Return a value as text: that of an object is its name."""
    if isinstance(value, dict):
        return next((text for key in ("name", "@value", "value") if (text := text_of(value.get(key)))), "")
    if isinstance(value, list):
        return next((text for item in islice(value, 20) if (text := text_of(item))), "")
    if value is None or isinstance(value, bool):
        return ""
    return " ".join(_UNSTORABLE.sub("", str(value)[:_MAX_TEXT]).split())


def _named(item: Mapping[str, Any]) -> Object:
    return {key: value for key, value in item.items() if isinstance(key, str)}


def _marked_up(tree: Element, scope: str, kind: str, name: str) -> list[Object]:
    """Return the outermost objects of microdata or RDFa Lite, whose attributes mean the same."""
    objects: dict[Element, Object] = {}
    outermost: list[Object] = []
    for element in islice(tree.xpath(f"//*[@{scope} or @{name}]"), _MAX_ELEMENTS):
        owner = _owner(element, objects)
        value: Any = _value(element)
        if element.get(scope) is not None:
            value = objects[element] = {"@type": (element.get(kind) or "").split()}
            if owner is None or element.get(name) is None:
                outermost.append(value)
        if owner is not None and (names := element.get(name)):
            for prop in names.split()[:5]:
                owner.setdefault(_last_part(prop), []).append(value)
    return outermost


def _owner(element: Element, objects: dict[Element, Object]) -> Object | None:
    ancestors = islice(element.iterancestors(), _MAX_LEVELS)
    return next((objects[ancestor] for ancestor in ancestors if ancestor in objects), None)


def _value(element: Element) -> str:
    declared = element.get("content") or element.get(_LINKS.get(element.tag, "value"))
    return declared or " ".join(text_start(element, _MAX_TEXTS).split())[:_MAX_TEXT]


def _last_part(name: str) -> str:
    return re.split(r"[/#:]", name.strip().rstrip("/"))[-1]


def nested(items: list[Object], depth: int = 0) -> Iterator[Object]:
    """Yield objects and those that they are about: what a web page's `mainEntity` is."""
    for item in items:
        yield item
        if depth < 3:
            main = [value for value in values_of(item, "mainEntity") if isinstance(value, dict)]
            if "FAQPage" not in types_of(item):
                yield from nested(main, depth + 1)
