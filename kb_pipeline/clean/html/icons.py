"""Writes as text what a page says in attributes alone: icons, ratings, image maps, abbreviations, values.

The name of an element is what its `aria-label` says, else its `title`, else the title of its drawing (after
https://www.w3.org/TR/accname-1.2/). It is written where the page shows no words for it, and never twice.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

from kb_pipeline.clean.html.anchors import is_unseen, to_fragment
from kb_pipeline.clean.html.images import file_name, is_decorative, only_in_cell
from kb_pipeline.clean.html.text_start import text_start

Element = Any

_NAMED = (
    "//svg | //a[@href][@aria-label or @title or not(normalize-space(text()))]"
    " | //*[@aria-label or @title or @data-original-title][self::i or self::em or self::b or self::span or self::td"
    " or self::th or self::dd or self::div or self::p or self::li or @role='img']"
)
_DRAWN = ("i", "em", "svg", "img", "span")
_LIGATURES = "//*[contains(@class, 'material-icons') or contains(@class, 'material-symbols')]"
_HIDDEN = "//*[@aria-hidden='true']"
_ICON_PARTS = frozenset({"i", "em", "b", "span", "svg", "use", "path", "img", "picture", "source", "small", "strong"})
_WORD = re.compile(r"\w")
_STARS = re.compile(r"[\s★☆⭐✩✪✭✮✯🌟⯨⯪]+")
_YES = re.compile(
    r"(?:^|[\s_/#.-])(?:check|checked|checkmark|check-?mark|tick|check-?circle|ok|yes|true|done|success)(?:[\s_.-]|\d|$)",
    re.I,
)
_NO = re.compile(
    r"(?:^|[\s_/#.-])(?:times|x-?mark|x-?lg|x-?circle|cross|crossmark|close|remove|no|false|ban|cancel|clear)(?:[\s_.-]|\d|$)",
    re.I,
)
_SURE = re.compile(r"check|tick|times|x-?mark|x-(?:lg|circle)|cross", re.I)
_PARTLY = re.compile(r"(?:^|[\s_/#.-])(?:minus|dash|hyphen)(?:[\s_.-]|$)", re.I)
_UTILITY = re.compile(r"\b(?:no|ok|yes)-[a-z]+", re.I)
_CONTROLS = frozenset({"button", "summary", "select", "nav", "label", "form"})
_UNSHOWN = frozenset({"title", "desc", "style", "script", "noscript", "template"})
_MAX_NODES = 200
_MAX_NAME = 300


def write_names(tree: Element) -> None:
    """Write into the text of a page what icons, ratings, maps and values say in their attributes."""
    for element in tree.xpath(_HIDDEN):
        _settle_hidden_sign(element)
    for element in tree.xpath(_LIGATURES):
        _write_ligature(element)
    for element in tree.xpath(_NAMED):
        _write_name(element)
    for element in list(tree.iter(*_DRAWN)):
        _write_sign(element)
    for image_map in list(tree.iter("map")):
        _write_map(image_map)
    for control in tree.xpath("//input[@type='image'][@alt]"):
        control.tag, control.text = "button", control.get("alt")
    _write_values(tree)
    _write_abbreviations(tree)


def _write_name(element: Element) -> None:
    if element.getparent() is None:  # it was part of a drawing whose words were written
        return
    if is_decorative(element) or to_fragment(element) is not None or _is_in_control(element):
        return
    name, shown = _name(element), _text(element)
    if element.tag == "svg":
        _write_drawing(element, name)
    elif not name or _speaks(element):
        return
    elif not shown:
        if _is_icon(element) and _is_seen(element) and not _is_said_beside(element, name):
            _write_text(element, name)
    elif _is_sign_with_label(element, shown):
        _write_text(element, name)


def _is_sign_with_label(element: Element, shown: str) -> bool:
    """Return whether an element shows stars, or a mark alone in a cell, and says more precisely what they mean."""
    if _WORD.search(shown) or not element.get("aria-label"):
        return False
    return _STARS.fullmatch(shown) is not None or only_in_cell(element) is not None


def _name(element: Element) -> str:
    name = element.get("aria-label") or element.get("title") or element.get("data-original-title")
    if not name and element.tag == "a":
        images = islice(element.iter("img"), 5)
        name = next((alt for image in images if (alt := image.get("alt"))), None) or _name_of_drawing(element)
    if not name and element.tag == "svg":
        name = _name_of_drawing(element)
    return " ".join((name or "")[:_MAX_NAME].split())


def _name_of_drawing(element: Element) -> str:
    for drawing in islice(element.iter("svg"), 3):
        for part in islice(drawing.iterchildren("title", "desc"), 2):
            if text := " ".join(text_start(part, 20).split()):
                return text
    return ""


def _text(element: Element) -> str:
    """Return the start of the text that an element shows."""
    return " ".join(text_start(element, _MAX_NODES, _UNSHOWN).split()).strip("\u200b\ufeff")


def _speaks(element: Element) -> bool:
    """Return whether an image inside says it already; a link is named by its image."""
    return element.tag != "a" and any(image.get("alt") for image in islice(element.iter("img"), 5))


def _is_icon(element: Element) -> bool:
    if element.tag == "a" or element.get("role") == "img":
        return True
    if element.tag in ("div", "p", "li") and len(element) == 0 and not element.get("class"):
        return False
    parts = islice(element.iterdescendants(), _MAX_NODES)
    return all(part.tag in _ICON_PARTS or _is_in_drawing(part) for part in parts)


def _is_in_drawing(element: Element) -> bool:
    return any(ancestor.tag == "svg" for ancestor in islice(element.iterancestors(), 6))


def _is_in_control(element: Element) -> bool:
    around = (element, *islice(element.iterancestors(), 4))
    return any(part.tag in _CONTROLS or part.get("role") in ("button", "tab", "menu", "toolbar") for part in around)


def _is_seen(element: Element) -> bool:
    """Return whether an icon is more than decoration: what is hidden from screen readers is, unless it stands alone."""
    around = (element, *islice(element.iterancestors(), 2))
    return all(part.get("aria-hidden") != "true" for part in around) or only_in_cell(element) is not None


def _is_said_beside(element: Element, name: str) -> bool:
    """Return whether the text around an element, within its parent, has its name already."""
    parent = element.getparent()
    if parent is None:
        return False
    pieces = [parent.text or "", element.tail or ""]
    for sibling in (*islice(element.itersiblings(preceding=True), 4), *islice(element.itersiblings(), 4)):
        pieces += [text_start(sibling, 20), sibling.tail or ""]
    return name.lower() in " ".join(" ".join(pieces)[:2000].split()).lower()


def _write_text(element: Element, text: str) -> None:
    """Make a text the content of an element, set off from words around it."""
    before = element.getprevious()
    glued = before.tail if before is not None else element.getparent().text
    for child in list(element):
        element.remove(child)
    element.text = f" {text}" if glued and glued[-1:].isalnum() else text
    if (element.tail or "")[:1].isalnum():
        element.tail = f" {element.tail}"
    element.attrib.pop("aria-hidden", None)
    if element.tag in ("i", "em", "b", "svg"):
        element.tag = "span"
    if element.tag == "span":
        element.attrib.clear()


def _write_drawing(drawing: Element, name: str) -> None:
    """Write the name of a drawing, and the words in it: diagrams and charts have labels, badges their message."""
    if not _is_seen(drawing):
        return
    words = _words_of_drawing(drawing, name)
    links = [link for link in islice(drawing.iter("a"), _MAX_NODES) if _address(link)]
    if links:
        _write_links(drawing, [(_address(link), _text(link)) for link in links])
        return
    said = name if name and not _is_said_beside(drawing, name) else ""
    if text := " ".join(filter(None, [said, words])):
        _write_text(drawing, text)


def _words_of_drawing(drawing: Element, name: str) -> str:
    labels: dict[str, None] = {}
    for part in islice(drawing.iter("text", "foreignobject"), _MAX_NODES):
        label = " ".join(text_start(part, 20).split())
        if _WORD.search(label) and label.lower() not in name.lower():
            labels[label] = None
    return ", ".join(labels)


def _address(link: Element) -> str:
    return link.get("href") or link.get("xlink:href") or link.get("{http://www.w3.org/1999/xlink}href") or ""


def _write_map(image_map: Element) -> None:
    """Write the areas of an image map as a list of links."""
    is_nested = any(ancestor.tag == "map" for ancestor in islice(image_map.iterancestors(), 4))
    if is_nested or image_map.getparent() is None:
        return
    areas = [(area.get("href") or "", area.get("alt") or area.get("title") or "") for area in image_map.iter("area")]
    _write_links(image_map, [(href, name) for href, name in areas if href and name])


def _write_links(element: Element, links: list[tuple[str, str]]) -> None:
    for child in list(element):
        element.remove(child)
    element.tag, element.text = "ul", None
    element.attrib.clear()
    for href, name in links:
        item = element.makeelement("li")
        link = element.makeelement("a")
        link.set("href", href)
        link.text = name
        item.append(link)
        element.append(item)


def _write_sign(element: Element) -> None:
    """Write an icon without a name that is drawn as a tick or a cross: alone in a cell, or before an item's words."""
    names = _UTILITY.sub("", _drawn_name(element))
    sign = "✓" if _YES.search(names) else "✗" if _NO.search(names) else "–" if _PARTLY.search(names) else ""
    if (
        not sign
        or element.getparent() is None
        or _text(element)
        or _is_in_control(element)
        or (element.tag == "img" and element.get("alt"))
    ):
        return
    if only_in_cell(element) is not None or (_SURE.search(names) and _leads_item(element)):
        element.tag = "span"
        _write_text(element, f"{sign} " if only_in_cell(element) is None else sign)


def _drawn_name(element: Element) -> str:
    """Return what an icon is called by its class, its symbol, or the file of its image."""
    if element.tag == "img":
        return file_name((element.get("src") or "")[:2000]).rsplit(".", 1)[0]
    symbols = (_address(use) for use in islice(element.iter("use"), 2))
    icons = (part.get("data-icon") or "" for part in (element,))
    return " ".join([(element.get("class") or "")[:300], *icons, *(symbol[-100:] for symbol in symbols)])


def _leads_item(element: Element) -> bool:
    """Return whether an icon is the first thing in a list item."""
    for _ in range(3):
        parent = element.getparent()
        if parent is None or element.getprevious() is not None or (parent.text or "").strip():
            return False
        if parent.tag == "li":
            return True
        element = parent
    return False


def _write_ligature(element: Element) -> None:
    """Write an icon font whose text is the name of an icon, which the font draws: only ticks and crosses are signs."""
    name = text_start(element, 5).strip().replace("_", "-")
    label = element.get("aria-label") or element.get("title")
    element.text, element.attrib["class"] = None, f"icon {name}"
    for child in list(element):
        element.remove(child)
    if not label:
        _write_sign(element)


def _settle_hidden_sign(element: Element) -> None:
    """Show a sign that is alone in its cell; take it away where words for screen readers beside it say the same."""
    shown = _text(element)
    if not shown or len(shown) > 8 or element.getparent() is None:
        return
    if only_in_cell(element) is not None:
        element.attrib.pop("aria-hidden")
        return
    others = (part for part in islice(element.itersiblings(), 5))
    before = (part for part in islice(element.itersiblings(preceding=True), 5))
    if any(is_unseen(part) and _text(part) for part in (*others, *before)):
        element.drop_tree()


def _write_values(tree: Element) -> None:
    """Write the values of meters, dates and data that have no text."""
    for element in list(tree.iter("meter", "progress", "time", "data")):
        value = element.get("datetime") if element.tag == "time" else element.get("value")
        if value and not _text(element):
            is_share = element.tag in ("meter", "progress") and element.get("max")
            element.text = f"{value[:100]} / {element.get('max')[:100]}" if is_share else value[:100]


def _write_abbreviations(tree: Element) -> None:
    """Write what an abbreviation is short for, where it is first used."""
    known: set[str] = set()
    for element in list(tree.iter("abbr", "acronym")):
        short, long = _text(element), " ".join((element.get("title") or "")[:_MAX_NAME].split())
        if not short or not long or short in known:
            continue
        known.add(short)
        is_longer = len(long) > len(short) and long[0].isalpha() and long.lower() != short.lower()
        if is_longer and not _is_said_beside(element, long):
            element.tail = f" ({long}){element.tail or ''}"
