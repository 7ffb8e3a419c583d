"""Puts the label of every tab at the head of its panel, where a reader of all panels in a row needs it.

Known by roles (`tablist`, `tab`, `tabpanel`), by lists of links to panels (Bootstrap, jQuery UI, WordPress), and by
radio buttons with labels (Material for MkDocs, sphinx-design, VitePress).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from typing import Any

from kb_pipeline.clean.html.visibility import is_hidden

Element = Any

_DECLARED = (
    "//*[@role='tab' or @data-toggle='tab' or @data-toggle='pill' or @data-bs-toggle='tab' or @data-bs-toggle='pill']"
)
_PANELS = (
    "//*[@id and (@hidden or @aria-hidden or contains(@style,'none') or contains(@class,'pane')"
    " or (contains(@class,'tab') and not(contains(@class,'table'))))]"
)
_LINKS = "//li/a[starts-with(@href,'#')]"
_TAB_NAME = re.compile(r"(?:^|[-_\s])tabs?(?:$|[-_\s])|tab-?(?:pane|panel|content|list|links?|nav)|panes?\b", re.I)
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_VERBATIM = frozenset({"pre", "table", "ul", "ol", "dl", "p", "img", "textarea"})
_MAX_LABEL = 120
_MAX_STEPS = 4
"""Levels from the list of tabs up to where its panels stand beside it."""


def label_tabs(tree: Element) -> None:
    """Move the labels of tabs into their panels; tabs whose panel is not on the page stay as they are."""
    controls = tree.xpath(_DECLARED)
    if tree.xpath(f"boolean({_PANELS})"):
        controls += tree.xpath(_LINKS)
    ids = {element.get("id"): element for element in tree.iterfind(".//*[@id]")} if controls else {}
    groups: dict[Element, list[Element]] = {}
    for control in controls:
        if (around := _list_of(control)) is not None:
            groups.setdefault(around, []).append(control)
    for around, tabs in groups.items():
        if around.getparent() is not None:
            _label_group(around, _outermost(tabs), ids)
    _label_radios(tree)


def _list_of(control: Element) -> Element | None:
    """Return the element that holds a tab and those beside it."""
    for ancestor in islice(control.iterancestors(), _MAX_STEPS):
        if ancestor.get("role") == "tablist" or ancestor.tag in ("ul", "ol", "nav"):
            return ancestor
    return control.getparent()


def _outermost(controls: list[Element]) -> list[Element]:
    """Return the controls that are in no other: a tab may be an item and the link in it."""
    known = set(controls)
    return [
        control
        for control in dict.fromkeys(controls)
        if not any(outer in known for outer in islice(control.iterancestors(), 3))
    ]


def _label_group(around: Element, controls: list[Element], ids: dict[str, Element]) -> None:
    named = [(control, ids.get(_target(control))) for control in controls]
    is_declared = any(control.get("role") == "tab" or control.tag != "a" or _toggles(control) for control in controls)
    if not is_declared and not _are_panels([panel for _, panel in named if panel is not None], around):
        return
    if any(panel is None for _, panel in named):
        panels = _panels_beside(around, len(controls))
        if panels is None and len(controls) != sum(panel is not None for _, panel in named):
            return
        named = list(zip(controls, panels, strict=True)) if panels else named
    for control, panel in named:
        if panel is not None and _head(panel, _label(control)):
            _remove(control, around)


def _toggles(control: Element) -> bool:
    return control.get("data-toggle") is not None or control.get("data-bs-toggle") is not None


def _target(control: Element) -> str:
    """Return the id that a tab, or the link in it, names as its panel."""
    for part in (control, *islice(control.iter("a", "button"), 2)):
        for name in ("aria-controls", "data-bs-target", "data-target", "href", "data-tab"):
            if value := (part.get(name) or "").strip():
                return str(value.split()[0].removeprefix("#"))
    return ""


def _are_panels(panels: list[Element], around: Element) -> bool:
    """Return whether the elements that a list of links leads to are panels, and not sections of a table of contents."""
    if not panels or any(panel.tag in _HEADINGS or panel.tag == "a" for panel in panels):
        return False
    if len({panel.getparent() for panel in panels}) > 1:
        return False
    return any(is_hidden(panel) or _TAB_NAME.search(_names(panel)) for panel in panels)


def _panels_beside(around: Element, count: int) -> list[Element] | None:
    """Return as many panels as there are tabs, from what follows their list; None if they do not match."""
    element = around
    for _ in range(_MAX_STEPS):
        following = list(islice(element.itersiblings(), count + 1))
        for candidates in (following, list(islice(following[0], count + 1)) if following else []):
            declared = [candidate for candidate in candidates if candidate.get("role") == "tabpanel"]
            if len(declared) == count:
                return declared
        if (
            following
            and sum(1 for _ in islice(following[0], count + 1)) == count
            and _TAB_NAME.search(_names(following[0]))
        ):
            return list(following[0])
        element = element.getparent()
        if element is None or element.tag == "body":
            return None
    return None


def _label_radios(tree: Element) -> None:
    """Label the panels that radio buttons switch: labels beside panels, or a row of labels and one of panels."""
    groups: dict[Element, list[str]] = {}
    for radio in tree.iterfind(".//input[@type='radio'][@id]"):
        groups.setdefault(radio.getparent(), []).append(radio.get("id"))
    for around, ids in groups.items():
        if len(ids) > 1 or _TAB_NAME.search(_names(around)):
            _label_radio_group(around, set(ids))


def _label_radio_group(around: Element, ids: set[str]) -> None:
    labels = [label for label in around.iterchildren("label") if label.get("for") in ids]
    rows: list[Iterable[Element]] = list(islice(around.itersiblings(), 1))
    if not labels:
        row = next((child for child in around if _labels_in(child, ids)), None)
        labels = _labels_in(row, ids) if row is not None else []
        rows += [row.getnext()] if row is not None and row.getnext() is not None else []
    beside = [child for child in around.iterchildren("div", "section") if next(child.iter("label"), None) is None]
    rows += [beside] if len(beside) == len(labels) else list(around.iterchildren("div"))
    pairs = _panel_after_each(labels) or _panel_in_row(labels, rows)
    for label, panel in pairs:
        if _head(panel, _label(label)):
            label.drop_tree()


def _labels_in(row: Element, ids: set[str]) -> list[Element]:
    return [label for label in row.iterchildren("label") if label.get("for") in ids]


def _panel_after_each(labels: list[Element]) -> list[tuple[Element, Element]]:
    pairs = []
    for label in labels:
        panel = label.getnext()
        if panel is None or panel.tag in ("input", "label") or not "".join(panel.itertext()).strip():
            return []
        pairs.append((label, panel))
    return pairs


def _panel_in_row(labels: list[Element], rows: Iterable[Iterable[Element]]) -> list[tuple[Element, Element]]:
    for row in rows:
        panels = [child for child in row if child.tag in ("div", "section", "pre", "li", "article")]
        if len(labels) > 1 and len(panels) == len(labels):
            return list(zip(labels, panels, strict=True))
    return []


def _label(control: Element) -> str:
    return " ".join("".join(control.itertext()).split())


def _head(panel: Element, label: str) -> bool:
    """Put a label at the head of a panel, unless it says the same; return whether the label can go elsewhere."""
    if not label or len(label) > _MAX_LABEL:
        return False
    panel.set("role", "tabpanel")
    first = next((text for text in islice(panel.itertext(), 20) if text.strip()), "")
    if " ".join(first.split()).strip(" :").lower() == label.lower():
        return True
    line = panel.makeelement("p")
    name = panel.makeelement("strong")
    name.text = label
    line.append(name)
    if panel.tag in _VERBATIM:
        panel.addprevious(line)
        return True
    line.tail, panel.text = panel.text, None
    panel.insert(0, line)
    return True


def _remove(control: Element, around: Element) -> None:
    """Remove a tab whose label stands elsewhere, with the item around it, and the list once it is empty."""
    item = control.getparent()
    if item is not None and item.tag == "li" and _label(item) == _label(control):
        control = item
    if control.getparent() is not None:
        control.drop_tree()
    if next(iter(around), None) is None and not (around.text or "").strip() and around.getparent() is not None:
        around.drop_tree()


def _names(element: Element) -> str:
    return f"{(element.get('class') or '')[:500]} {(element.get('id') or '')[:100]}"
