"""Ties footnotes to their references, as `[^1]` in the text and `[^1]: ...` where the note is.

A reference is known by its role, or as a raised link to a place in the page. As a digit it would run into the number or
the word before it, and as a link it would say less than where its note is.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

from kb_pipeline.clean.html.anchors import to_fragment
from kb_pipeline.clean.html.text_start import text_start

Element = Any

_NAMED = re.compile(
    r"(?:^|[-_\s])(?:footnote-?(?:ref\w*|anchor|link)|fn-?ref\w*|note-?ref\w*|reference|citation)(?:[-_\s]|$)", re.I
)
_BACK_NAMED = re.compile(r"back-?(?:ref|link)|reversefootnote|footnote-?back|fn-?back", re.I)
_BACK_SIGN = re.compile(r"[\s↩↑^⤴←⇑↵⏎⮐⬆🔙\ufe0e\ufe0f]+")
_BACK_WORDS = re.compile(
    r"\W*(?:jump up|jump back|back to (?:content|text|top|reference)|back|return to text)\W*", re.I
)
_AROUND_LABEL = " \t\n\xa0[](){}.:,^"
_MAX_LABEL = 12
_MAX_PARTS = 60
_NOTES = frozenset({"li", "p", "div", "aside", "dd", "dt", "tr", "td", "section", "span", "table"})


def write_notes(tree: Element) -> None:
    """Write the references and notes of a page, and remove the links back."""
    links = tree.xpath("//a[starts-with(@href, '#')]")
    references = [link for link in links if _is_reference(link)]
    if not references:
        return
    places = _places(tree)
    labels: dict[str, str] = {}
    back: set[str] = set()
    for link in references:
        fragment, label = to_fragment(link) or "", _label(link)
        if label and fragment in places:
            labels.setdefault(fragment, label)
            back.update(name for name in _names_around(link) if name)
            _write_reference(link, label)
    for fragment, label in labels.items():
        _write_note(places[fragment], label, back)
    for link in links:
        if to_fragment(link) in back or _BACK_NAMED.search((link.get("class") or "")[:200]):
            _remove_back_link(link)


def _is_reference(link: Element) -> bool:
    names = (link.get("class") or "")[:200]
    if link.get("role") == "doc-backlink" or _BACK_NAMED.search(names):
        return False
    if "noteref" in (link.get("role") or link.get("epub:type") or "") or link.get("data-footnote-ref") is not None:
        return True
    parent = link.getparent()
    around = parent.get("class") or "" if parent is not None else ""
    is_raised = next(islice(link.iter("sup"), 1), None) is not None or _raised_around(link) is not None
    return bool(is_raised or _NAMED.search(names) or (_NAMED.search(around[:200]) and _text(link)[:1] == "["))


def _raised_around(link: Element) -> Element | None:
    return next((ancestor for ancestor in islice(link.iterancestors(), 2) if ancestor.tag == "sup"), None)


def _label(link: Element) -> str:
    text = _text(link).strip(_AROUND_LABEL)
    return text if 0 < len(text) <= _MAX_LABEL else ""


def _text(element: Element) -> str:
    return " ".join(text_start(element, _MAX_PARTS).split())


def _places(tree: Element) -> dict[str, Element]:
    """Return the elements of a page by their names."""
    places: dict[str, Element] = {}
    for element in tree.xpath("//*[@id] | //a[@name]"):
        for name in (element.get("id"), element.get("name")):
            if name:
                places.setdefault(name, element)
    return places


def _names_around(link: Element) -> list[str | None]:
    raised = _raised_around(link)
    inside = next(islice(link.iter("sup"), 1), None)
    return [
        part.get(name)
        for part in (link, raised, inside, link.getparent())
        if part is not None
        for name in ("id", "name")
    ]


def _write_reference(link: Element, label: str) -> None:
    raised = _raised_around(link)
    _become_text(link, f"[^{label}]")
    if raised is not None:
        raised.tag = "span"
        if raised.text and not raised.text.strip(_AROUND_LABEL):
            raised.text = None
        if link.tail and not link.tail.strip(_AROUND_LABEL):
            link.tail = None


def _become_text(element: Element, text: str) -> None:
    for child in list(element):
        element.remove(child)
    element.tag, element.text = "span", text
    element.attrib.clear()


def _write_note(note: Element, label: str, back: set[str]) -> None:
    """Write a note's label before it: in the place of the one that it shows, or instead of its number in a list."""
    if note.tag in ("a", "sup"):
        if _text(note).strip(_AROUND_LABEL) == label:
            _become_text(note, f"[^{label}]:")
            return
        note = note.getparent()
    if note is None or note.tag not in _NOTES:
        return
    shown = _shown_label(note, label)
    if shown is not None:
        _replace_label(shown, _marker(note, label))
    elif note.tag == "li":
        _write_item(note, label)
    elif not _text(note).lstrip(_AROUND_LABEL).startswith(label):
        _put_before(note, _marker(note, label))


def _replace_label(shown: Element, marker: str) -> None:
    """Put a marker in the place of a label, or into the paragraph after it."""
    following = shown.getnext()
    if following is not None and following.tag in ("p", "div") and not (shown.tail or "").strip(_AROUND_LABEL):
        _put_before(following, marker)
        shown.drop_tree()
        return
    _become_text(shown, marker.strip())
    if shown.tail and shown.tail[:1] in ".)]":
        shown.tail = shown.tail[1:]


def _marker(note: Element, label: str) -> str:
    """Return the label of a note; one of a single word would be the address of a link in Markdown behind a colon."""
    words = text_start(note, _MAX_PARTS).split()
    return f"[^{label}]: " if len(words) > 2 else f"[^{label}] "


def _shown_label(note: Element, label: str) -> Element | None:
    """Return the outermost element at the start of a note that shows only its label."""
    for part in islice(note.iterdescendants("a", "span", "sup", "td", "th", "b", "strong", "dt"), 8):
        if _text(part).strip(_AROUND_LABEL) == label:
            return part if part.tag not in ("td", "th", "dt") else next(iter(part), part)
        if _text(part):
            return None
    return None


def _write_item(item: Element, label: str) -> None:
    """Write the note of a numbered list, of which every item is a note and becomes a paragraph."""
    parent = item.getparent()
    if parent is None or parent.tag not in ("ol", "ul", "div"):
        return
    if parent.tag != "div" and any(not child.get("id") for child in parent.iterchildren("li")):
        return
    parent.tag, item.tag = "div", "div"
    _put_before(item, _marker(item, label))


def _put_before(note: Element, text: str) -> None:
    """Put a text before the first words of a note, in its first paragraph."""
    target = note
    while len(target) and not (target.text or "").strip() and target[0].tag in ("p", "div"):
        target = target[0]
    target.text = f"{text}{(target.text or '').lstrip()}"


def _remove_back_link(link: Element) -> None:
    """Remove a link from a note back to its reference, if it is no word of the note."""
    parent, text = link.getparent(), _text(link)
    if parent is None or link.tag != "a":
        return
    is_letter = len(text) < 3 and text.isalnum()
    if text and not (_BACK_SIGN.fullmatch(text) or _BACK_WORDS.fullmatch(text) or is_letter):
        return
    is_alone = "backlink" in (parent.get("class") or "") and not re.search(r"\w", _text(parent).replace(text, ""))
    (parent if is_alone and parent.getparent() is not None else link).drop_tree()
