"""Puts what browsers render from inside attributes and templates into the tree: shadow roots, frames with `srcdoc`."""

from __future__ import annotations

from typing import Any

Element = Any

_MAX_SRCDOC = 200_000
"""Characters in one `srcdoc`: a demonstration, not a page."""


def open_shadow_roots(tree: Element) -> None:
    """Replace every host's children by its declarative shadow root, with the children in the root's slots."""
    for template in [element for element in tree.iter("template") if element.get("shadowrootmode") is not None]:
        host = template.getparent()
        if host is not None:
            _fill(host, template)


def open_frames(tree: Element) -> None:
    """Replace every frame that holds its document in `srcdoc` by that document's body."""
    from lxml import etree
    from lxml.html import HTMLParser, document_fromstring

    for frame in list(tree.iter("iframe")):
        source = (frame.get("srcdoc") or "")[:_MAX_SRCDOC]
        if not source.strip():
            continue
        parser = HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, no_network=True)
        try:
            body = document_fromstring(source.encode("utf-8", "replace"), parser=parser).find("body")
        except (etree.ParserError, etree.XMLSyntaxError):
            continue
        if body is not None:
            frame.tag, frame.text = "div", body.text
            frame.attrib.clear()
            frame.extend(list(body))


def _fill(host: Element, template: Element) -> None:
    """Distribute the children of a host over the slots of its shadow root; those without a slot are not rendered."""
    slots: dict[str, Element] = {}
    for slot in template.iter("slot"):
        slots.setdefault(slot.get("name") or "", slot)
    lost = []
    given = [child for child in host if child is not template]
    _give_text(slots.get(""), f"{host.text or ''} {template.tail or ''}")
    for child in given:
        name = child.get("slot") or ""
        tail, child.tail = child.tail, None
        if (slot := slots.get(name)) is None:
            lost.append(child)
        else:
            _put(slot, child)
        _give_text(slots.get(""), tail)
    for child in lost:
        host.remove(child)
    host.text = template.tail = None
    template.tag = "div"
    template.attrib.clear()


def _put(slot: Element, child: Element) -> None:
    """Add a child to a slot, whose own content is shown only while it is empty."""
    if slot.get("filled") is None:
        slot.set("filled", "")
        slot.text = None
        for default in list(slot):
            slot.remove(default)
    slot.append(child)


def _give_text(slot: Element | None, text: str | None) -> None:
    if slot is None or not text or not text.strip():
        return
    if slot.get("filled") is None:
        slot.set("filled", "")
        slot.text = None
        for default in list(slot):
            slot.remove(default)
    if next(iter(slot), None) is not None:
        slot[-1].tail = (slot[-1].tail or "") + text
    else:
        slot.text = (slot.text or "") + text
