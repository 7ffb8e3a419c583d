"""Finds line numbers beside code: elements of their own whose texts count up by one, over all lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from kb_pipeline.clean.html.code_text import Element, code_text

_NUMBER = re.compile(r"\s*(\d{1,7})\s*[.:|)]?\s*")
_TOKEN = re.compile(r"[.:|)]?")
# Classes of highlighters for numbers in code: Pygments, Prism, highlight.js, TextMate.
_LITERAL = re.compile(r"m|mi|mf|mb|mh|mo|il|nu0|kc|number|hljs-number|value|constant|numeric|dec|dv|cm-number")
_NAMED = re.compile(
    r"(?:^|[-_])(?:line-?(?:no|nos|num|nums|nr|number|numbers)|ln|lnt|lnum|ln-num|gutter|blob-num|rownumber)$", re.I
)
_MAX_CLIMB = 4
_MAX_GROUPS = 8


def line_numbers(root: Element, *, preserve: bool = True) -> set[Element]:
    """Return the elements of a listing that hold nothing but its line numbers."""
    found: set[Element] = set()
    for group in _groups(root)[:_MAX_GROUPS]:
        if is_named(group[0]) or _number_all_lines(root, group, found, preserve):
            found.update(group)
    found |= _columns(root, found, preserve)
    return found if found and code_text(root, without=found, preserve=preserve).strip() else set()


def _columns(root: Element, numbers: set[Element], preserve: bool) -> set[Element]:
    """Return the elements right inside a listing that hold all of its line numbers as one text."""
    found: set[Element] = set()
    holder = root
    while len(holder) == 1 and not (holder.text or "").strip():
        holder = holder[0]
    for child in holder:
        listed = _numbers(child.itertext()) if child not in numbers else None
        if listed and len(listed) > 1 and _is_rising(listed) and len(found) < _MAX_GROUPS:
            lines = line_count(code_text(root, without={child, *numbers, *found}, preserve=preserve))
            if abs(lines - len(listed)) <= 1:
                found.add(child)
    return found


def counts(elements: Sequence[Element], lines: int) -> bool:
    """Return whether elements beside a listing hold its line numbers and nothing else.

    Args:
        elements: a cell, or other elements, in document order.
        lines: how many lines the listing has.
    """
    numbers = _numbers(text for element in elements for text in element.itertext())
    if not numbers or not _is_rising(numbers):
        return False
    if len(numbers) == 1:
        return lines == 1 and any(map(_is_named_inside, elements))
    return abs(len(numbers) - lines) <= 1


def counts_rows(cells: list[Element]) -> bool:
    """Return whether the first cells of a table's rows hold line numbers: each one more than that above, or none."""
    numbers = [_numbers(cell.itertext()) for cell in cells]
    if any(listed is None or len(listed) > 1 for listed in numbers):
        return False
    return _is_rising([listed[0] for listed in numbers if listed])


def line_count(code: str) -> int:
    """Return how many lines a listing has, without empty ones around it."""
    return code.strip("\n").count("\n") + 1


def separator(code: str, numbers: Iterable[Element]) -> str:
    """Return the single space that stands between line numbers and every line of the code; empty if there is none."""
    tails = [tail for number in numbers if (tail := number.tail)]
    lines = [line for line in code.split("\n") if line.strip()]
    if not tails or not lines or not all(tail[0] in " \xa0\n" for tail in tails):
        return ""
    # An excerpt of indented code has an even indentation: an odd one is a column of its own.
    return " " if min(len(line) - len(line.lstrip(" ")) for line in lines) % 2 else ""


def _is_named_inside(element: Element) -> bool:
    return any(is_named(part) for part in element.iter())


def _numbers(texts: Iterable[str]) -> list[int] | None:
    """Return the numbers in texts that hold nothing else, or None."""
    found: list[int] = []
    for text in texts:
        for word in text.split():
            number = _NUMBER.fullmatch(word)
            if number is None and not _TOKEN.fullmatch(word):
                return None
            if number is not None:
                found.append(int(number[1]))
    return found


def _is_rising(numbers: list[int]) -> bool:
    return all(after == before + 1 for before, after in pairwise(numbers))


def is_named(element: Element) -> bool:
    """Return whether an element's class or data says that it is a line number."""
    names = (element.get("class") or "")[:1000].split()
    number = element.get("data-line-number")
    return any(_NAMED.search(name) for name in names) or (
        number is not None and (element.text or "").strip() in ("", number)
    )


def _groups(root: Element) -> list[list[Element]]:
    """Return the elements that hold only numbers which count up, in groups of the same kind, in document order."""
    groups: dict[tuple[str, str], list[tuple[int, Element]]] = {}
    for leaf in root.iter():
        if len(leaf) or leaf is root or not leaf.text:
            continue
        number = _NUMBER.fullmatch(leaf.text)
        if number is not None:
            element = _outermost(leaf, root)
            if not _is_literal(leaf):
                groups.setdefault(_kind(element), []).append((int(number[1]), element))
    return [
        [element for _, element in group]
        for group in groups.values()
        if _is_rising([number for number, _ in group]) or is_named(group[0][1])
    ]


def _outermost(leaf: Element, root: Element) -> Element:
    """Return the outermost element around a number that holds nothing else."""
    element = leaf
    for _ in range(_MAX_CLIMB):
        parent = element.getparent()
        if parent is root or (parent.text or "").strip() or (element.tail or "").strip() or len(parent) > 1:
            return element
        element = parent
    return element


def _kind(element: Element) -> tuple[str, str]:
    names = (element.get("class") or "").split()
    return element.tag, re.sub(r"\d+", "", names[0]) if names else ""


def _is_literal(element: Element) -> bool:
    names = (element.get("class") or "").lower().split()
    return any(_LITERAL.fullmatch(name) for name in names) and not is_named(element)


def _number_all_lines(root: Element, group: list[Element], others: set[Element], preserve: bool) -> bool:
    """Return whether each line begins with one of the numbers, or all of them stand in a column before or after."""
    if len(group) < 2:
        return False
    code = code_text(root, without={*group, *others}, preserve=preserve)
    if not code.strip() or abs(line_count(code) - len(group)) > 1:
        return False
    if len({element.getparent() for element in group}) == 1 and _is_column(group):
        return True
    numbered = code_text(root, preserve=preserve).split("\n")
    return sum(1 for line in numbered if _NUMBER.match(line)) >= len(group)


def _is_column(group: list[Element]) -> bool:
    """Return whether nothing but white space and breaks stands between numbers."""
    inside = set(group)
    element = group[0]
    while element is not None and element is not group[-1]:
        if (element not in inside and element.tag != "br") or (element.tail or "").strip():
            return False
        element = element.getnext()
    return True
