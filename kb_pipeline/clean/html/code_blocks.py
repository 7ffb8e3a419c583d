"""Finds code that a style, a break or a field shows on lines of its own, outside `pre`."""

from __future__ import annotations

import re

from kb_pipeline.clean.html.code_language import code_language
from kb_pipeline.clean.html.code_text import Element, code_text, is_block
from kb_pipeline.clean.html.white_space import WhiteSpace

_CODE = ("code", "samp", "kbd", "tt", "output")
_CODE_BOX = re.compile(
    r"(?:^|\s)(?:code|code-?box|code-?block|source-?code|code-?snippet|listing|program-?listing|terminal|bb-?code-?code)"
    r"(?:\s|$)",
    re.I,
)
_HIGHLIGHTED = re.compile(r"(?:^|\s)(?:hljs|prettyprint|prettyprinted|(?:language|lang|brush)-\S+)(?:\s|$)", re.I)
_SIGNATURE = re.compile(r"(?:^|\s)(?:member|type|module|package|method|field)-?signature(?:\s|$)", re.I)
_CELLS = frozenset({"td", "th", "dt", "a", "caption", "summary", "h1", "h2", "h3", "h4", "h5", "h6", "label", "button"})
_VERBATIM = frozenset({"pre", "xmp", "listing"})
_STRUCTURE = frozenset({"table", "tbody", "thead", "tfoot", "tr", "ol", "ul", "dl", "html", "body", "main", "head"})
_RUN = re.compile(r"^(?: {2,}|\t)\S|\S {3,}\S|\t", re.M)
_MAX_CODE_LINE = 120


def read_white_space(tree: Element) -> None:
    """Turn elements whose white space is shown into `pre`, or their line breaks into `br` if they hold prose."""
    white_space = WhiteSpace(tree)
    shown = [element for element in tree.iter() if _is_shown_as_it_is(element, white_space)]
    holders = _holders_of_blocks(tree) if shown else set()
    inside: set[Element] = set()
    for element in shown:
        if element in holders or element in inside:
            continue
        inside.update(element.iterdescendants())
        if _has_name(element, _SIGNATURE):
            _make_pre(element, code_text(element))
        else:
            _keep_lines(element)


def read_breaks(tree: Element) -> None:
    """Turn code with breaks into a `pre` if it stands alone, else into an element for each of its lines."""
    inside: set[Element] = set()
    boxes = [element for element in tree.iter("div", "p", "td") if _has_name(element, _CODE_BOX)]
    holders = _holders_of_blocks(tree) if boxes else set()
    for box in boxes:
        if box not in holders and next(box.iterchildren("br"), None) is not None:
            _read_box(box)
    for code in list(tree.iter(*_CODE)):
        if code not in inside:
            inside.update(code.iterdescendants())
            _read_code(code)


def _read_box(box: Element) -> None:
    text = code_text(box, preserve=False)
    if "\n" in text.strip():
        _make_pre(box, text)


def _read_code(code: Element) -> None:
    if code.getparent() is None:
        return
    if _HIGHLIGHTED.search((code.get("class") or "")[:1000]) and _stands_alone(code):
        text = code_text(code)
        if "\n" in text.strip():
            _make_pre(code, text)
        return
    parts = list(code.iterdescendants())
    if any(part.tag in _VERBATIM for part in parts) or not any(part.tag == "br" or is_block(part) for part in parts):
        return
    lines = code_text(code, preserve=False).strip("\n").rstrip().split("\n")
    if len(lines) > 1 and _stands_alone(code):
        _make_pre(code, "\n".join(lines))
    elif len(lines) > 1:
        _split(code, lines)


def _stands_alone(code: Element) -> bool:
    """Return whether code is all that its block holds, and its block no cell or term, which stays a line."""
    parent = code.getparent()
    if len(parent) != 1 or (parent.text or "").strip() or (code.tail or "").strip():
        return False
    if not is_block(parent) and parent.tag not in ("body", "main"):
        return False
    return all(ancestor.tag not in _CELLS for ancestor, _ in zip(code.iterancestors(), range(3), strict=False))


def _split(code: Element, lines: list[str]) -> None:
    """Replace code by one element for each of its lines, with breaks between them."""
    tail = code.tail
    pieces: list[Element] = []
    for line in filter(None, map(str.strip, lines)):
        if pieces:
            pieces.append(code.makeelement("br"))
        pieces.append(code.makeelement(code.tag))
        pieces[-1].text = line
    code.tail = None
    for piece in pieces:
        code.addprevious(piece)
    if pieces:
        pieces[-1].tail = tail
    code.getparent().remove(code)


def _has_name(element: Element, pattern: re.Pattern[str]) -> bool:
    names = element.get("class")
    return bool(names) and pattern.search(names[:1000]) is not None


def _is_shown_as_it_is(element: Element, white_space: WhiteSpace) -> bool:
    """Return whether the white space of an element counts: by its style, or as in a field or a signature of Javadoc."""
    if element.tag == "textarea":
        return element.get("readonly") is not None or element.get("disabled") is not None
    if element.tag in _VERBATIM or element.tag in _STRUCTURE:
        return False
    return white_space.shows(element) or (element.tag == "div" and _has_name(element, _SIGNATURE))


def _holders_of_blocks(tree: Element) -> set[Element]:
    """Return the elements that hold a block, in time linear in the size of the page."""
    holders: set[Element] = set()
    for element in tree.iter():
        if is_block(element) or element.tag in _VERBATIM:
            holder = element.getparent()
            while holder is not None and holder not in holders:
                holders.add(holder)
                holder = holder.getparent()
    return holders


def _keep_lines(element: Element) -> None:
    """Keep the lines of an element as a browser shows them: as code if they are laid out with spaces."""
    text = code_text(element)
    if "\n" not in text.strip() and element.tag != "textarea":
        return
    if element.tag == "textarea" or (_is_laid_out(text) and is_block(element)):
        _make_pre(element, text)
    else:
        _break_lines(element)


def _is_laid_out(text: str) -> bool:
    """Return whether spaces put text into columns or indent it, as in code and in tables of plain text."""
    lines = [line for line in text.split("\n") if line.strip()]
    if any(len(line) > _MAX_CODE_LINE for line in lines):
        return False
    return 4 * len(_RUN.findall(text)) >= len(lines)


def _break_lines(element: Element) -> None:
    """Put a `br` for each line break in the texts of an element."""
    for part in list(element.iter()):
        if part.text and "\n" in part.text:
            first, *others = part.text.split("\n")
            part.text = first
            part.insert(0, last := _br(part, others[0]))
            _add_after(last, others[1:])
        if part is not element and part.tail and "\n" in part.tail:
            first, *others = part.tail.split("\n")
            part.tail = first
            _add_after(part, others)


def _add_after(element: Element, lines: list[str]) -> None:
    """Add lines after an element and its tail, each behind a `br`."""
    for line in lines:
        element.addnext(line_break := _br(element, line))
        element = line_break


def _br(like: Element, tail: str) -> Element:
    line_break = like.makeelement("br")
    line_break.tail = tail
    return line_break


def _make_pre(element: Element, text: str) -> None:
    """Make an element a `pre` with this text, or put one into it if it is a cell, a term or an item."""
    language = code_language(element)
    del element[:]
    target = element
    if element.tag in ("td", "th", "li", "dd", "dt", "caption"):
        element.text = None
        target = element.makeelement("pre")
        element.append(target)
    else:
        element.tag = "pre"
    target.text = f"\n{text}" if text.startswith("\n") else text
    if language:
        target.set("data-lang", language)
