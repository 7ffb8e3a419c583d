"""Reads the text of a listing with the lines and the indentation that a browser shows."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any

Element = Any

_BLOCKS_TEXT = """
    address article blockquote center dd details dir div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6
    header hr legend li listing main menu nav ol p pre section summary table tbody tfoot thead tr ul xmp
"""
_BLOCKS = frozenset(_BLOCKS_TEXT.split())
_NEVER_TEXT = frozenset({"table", "tbody", "thead", "tfoot", "tr", "ol", "ul", "colgroup"})
_FRAMES = _NEVER_TEXT - {"tr"}
_CELLS = frozenset({"td", "th"})
_CONTROLS = frozenset({"button", "select", "input", "textarea", "script", "style", "template", "noscript", "svg"})
_BLOCK_STYLE = re.compile(r"display:(?:block|flex|grid|table|list-item)")
_LINE_NAME = re.compile(r"(?:^|[-_]|code)line$|(?:code|line|ln)[-_]row$", re.I)
_LINE_ID = re.compile(r"(?:L|LC|l|line-?)\d+")
_COPY_NAME = re.compile(r"copy|copied|clip(?:board)?|btn|button|toolbar", re.I)
_COPY_LABEL = re.compile(
    r"(?:copy|copied|copier|kopieren|copiar|复制|複製|コピー)(?: (?:code|to clipboard|text|snippet|command|link))?[!.]?"
    r"|\[?(?:select all|select|copy)\]?|复制代码|expand|wrap|view raw|raw",
    re.I,
)
_LABEL_CHARS = 40
# What a writer of HTML puts in to allow or forbid line breaks: no compiler reads it.
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")


def code_text(root: Element, *, without: Collection[Element] = (), preserve: bool = True) -> str:
    """Return the text of a listing: a line for each `br` and each block, its spaces as they are, no controls.

    Args:
        root: the element that holds the listing.
        without: elements to leave out, such as line numbers.
        preserve: whether white space counts, as in a `pre`; elsewhere a run of it is one space, and only no-break
            spaces indent.
    """
    scan = _Scan(preserve, set(without), frozenset(_inline_lines(root)))
    text = scan.read(root)
    if root.tag in ("pre", "listing", "textarea", "xmp"):
        text = text.removeprefix("\n")
    return _INVISIBLE.sub("", text).replace("\xa0", " ")


def is_line(element: Element) -> bool:
    """Return whether a highlighter says by class, id or data that an element is one line of code."""
    names = (element.get("class") or "")[:1000].split()
    return (
        any(_LINE_NAME.search(name) for name in names)
        or element.get("data-line") is not None
        or element.get("data-line-number") is not None
        or (element.tag == "span" and _LINE_ID.fullmatch((element.get("id") or "")[:20]) is not None)
    )


def is_control(element: Element) -> bool:
    """Return whether an element inside a listing is no part of the code: a field, a button or what stands for one."""
    return element.tag in _CONTROLS or element.get("role") == "button" or copies(element)


def copies(element: Element) -> bool:
    """Return whether an element copies the code that it stands in or beside."""
    is_button = element.tag in ("button", "clipboard-copy") or element.get("role") == "button"
    if not is_button and not _COPY_NAME.search((element.get("class") or "")[:1000]):
        return False
    text = _short_text(element)
    return text is not None and _COPY_LABEL.fullmatch(text) is not None


def is_block(element: Element) -> bool:
    """Return whether an element stands on lines of its own."""
    return element.tag in _BLOCKS or _BLOCK_STYLE.search(style_of(element)) is not None


def style_of(element: Element) -> str:
    """Return the style attribute in lower case, without spaces."""
    style = element.get("style")
    return "".join(style[:1000].lower().split()) if style else ""


def _short_text(element: Element) -> str | None:
    """Return an element's text with single spaces, or None if it is longer than a label."""
    pieces: list[str] = []
    size = 0
    for piece in islice(element.itertext(), _LABEL_CHARS):
        size += len(piece.strip())
        if size > _LABEL_CHARS:
            return None
        pieces.append(piece)
    return " ".join("".join(pieces).split())


class _Scan:
    """A walk through a listing in document order; its state is whether a line has begun."""

    def __init__(self, preserve: bool, without: set[Element], lines: frozenset[Element]) -> None:
        self.preserve = preserve
        self.without = without
        self.lines = lines
        self.out: list[str] = []
        self.is_at_start = True
        self.has_implied_break = False
        """Whether the last line ended with its element, so that a line break after it in the source is the same one."""
        self.thinned: set[Element] = set()
        """Elements of which a part was left out."""

    def read(self, root: Element) -> str:
        self._text(root.text, root)
        stack: list[tuple[Element, Any, int]] = [(root, iter(root), 0)]
        while stack:
            element, children, size = stack[-1]
            child = next(children, None)
            if child is not None:
                self._open(child, stack)
                continue
            stack.pop()
            if element is not root:
                self._close(element, size)
                self._text(element.tail, element.getparent())
        return "".join(self.out)

    def _open(self, child: Element, stack: list[tuple[Element, Any, int]]) -> None:
        if child in self.without or is_control(child) or _is_unseen(child):
            self.thinned.add(child.getparent())
            self._text(child.tail, child.getparent())
            return
        if child.tag == "br":
            self._break()
        elif self._is_block(child):
            if not self.is_at_start:
                self._break()
            self.has_implied_break = False
        stack.append((child, iter(child), len(self.out)))
        self._text(child.text, child)

    def _close(self, element: Element, size: int) -> None:
        if self._is_block(element) and (
            not self.is_at_start or (len(self.out) == size and self._is_empty_line(element))
        ):
            self._break()
            self.has_implied_break = True

    def _is_empty_line(self, element: Element) -> bool:
        """Return whether a block without text is an empty line: no frame, and no cell that lost its number."""
        return element.tag not in _FRAMES and element.getparent().tag not in _CELLS and element not in self.thinned

    def _is_block(self, element: Element) -> bool:
        return element in self.lines or is_block(element)

    def _break(self) -> None:
        if not self.preserve and self.out:
            self.out[-1] = self.out[-1].rstrip(" ")
        self.out.append("\n")
        self.is_at_start, self.has_implied_break = True, False

    def _text(self, text: str | None, parent: Element) -> None:
        if not text:
            return
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        if not self.preserve:
            text = self._collapsed(text)
        elif parent.tag in _NEVER_TEXT and not text.strip():
            return
        elif self.has_implied_break and text.startswith("\n"):
            text = text[1:]
        if text:
            self.out.append(text)
            self.is_at_start, self.has_implied_break = text.endswith("\n"), False

    def _collapsed(self, text: str) -> str:
        """Collapse white space, but keep spaces right after a line break: they were meant to indent."""
        flat = re.sub(r"[ \t\f]*\n[ \t\n\f]*", "\n", text)
        if self.is_at_start:
            flat = flat.removeprefix("\n")
        return flat.replace("\n", " ")


def _is_unseen(element: Element) -> bool:
    """Return whether an element is hidden and no whole line of code, as folded lines are."""
    is_hidden = element.get("hidden") is not None or "display:none" in style_of(element)
    return is_hidden and not is_block(element) and not is_line(element) and _short_text(element) is not None


def _inline_lines(root: Element) -> Iterator[Element]:
    """Yield the inline elements that are a line each, though neither an element nor a character breaks the line."""
    siblings: dict[Element, list[Element]] = {}
    for element in root.iter("span", "code"):
        parent = element.getparent()
        if element is not root and (is_line(element) or (element.tag == "code" and parent.tag == "pre")):
            siblings.setdefault(parent, []).append(element)
    if all(len(lines) < 2 for lines in siblings.values()):
        return
    broken = _with_breaks(root)
    for parent, lines in siblings.items():
        if len(lines) < 2 or len(lines) < len(parent) or (parent.text or "").strip():
            continue
        if not any(line.tail or line in broken for line in lines):
            yield from lines


def _with_breaks(root: Element) -> set[Element]:
    """Return the elements that hold a line break of any kind."""
    broken: set[Element] = set()
    for element in root.iter():
        is_breaking = element.tag == "br" or is_block(element) or "\n" in (element.text or "")
        holder = element if is_breaking else element.getparent() if "\n" in (element.tail or "") else None
        while holder is not None and holder not in broken:
            broken.add(holder)
            holder = holder.getparent() if holder is not root else None
    return broken
