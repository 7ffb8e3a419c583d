"""Turns every listing of a page into a plain `pre`, and writes those as fences."""

from __future__ import annotations

from kb_pipeline.clean.html.code_blocks import read_breaks, read_white_space
from kb_pipeline.clean.html.code_language import code_language, is_known
from kb_pipeline.clean.html.code_text import Element, code_text, copies, is_block
from kb_pipeline.clean.html.gutters import counts, line_count, line_numbers, separator
from kb_pipeline.clean.html.inline import longest_run
from kb_pipeline.clean.html.listings import LineListing, code_cells, line_listings

VERBATIM = frozenset({"pre", "xmp", "listing"})
"""Elements whose text a browser shows with its spaces and line breaks."""

_FRAMES = frozenset({"body", "main", "article", "section", "li", "td", "dd", "html"})
_MAX_WRAPPERS = 3
_MAX_SIBLINGS = 3
_MAX_TITLE = 200
_LANGUAGE = "data-lang"


def read_listings(tree: Element) -> None:
    """Reduce each listing in a tree, however it is built, to a `pre` with nothing but its code and its language.

    Line numbers and buttons go, titles stay above the code. Code inside a line of text keeps its element, one for each
    of its lines.
    """
    for listing in line_listings(tree):
        _gather(listing)
    _read_pres(tree)
    read_white_space(tree)
    read_breaks(tree)
    for table in list(tree.iter("table")):
        cells = code_cells(table)
        if cells:
            _unwrap(table, cells)


def write_fence(element: Element) -> str:
    """Write code between fences longer than any run of backticks in it; empty if there is no code."""
    code = code_text(element)
    if not code.strip():
        return ""
    ticks = "`" * max(3, longest_run(code) + 1)
    end = "" if code.endswith("\n") else "\n"
    return f"{ticks}{code_language(element)}\n{code}{end}{ticks}"


def _gather(listing: LineListing) -> None:
    """Move the lines of a listing into a `pre`, and remove line numbers left between them."""
    place = listing.lines[0]
    while place.getparent() is not listing.owner:
        place = place.getparent()
    place = listing.owner if listing.owner.tag in ("ol", "ul") else place
    pre = place.makeelement("pre")
    _set_language(pre, code_language(listing.owner))
    place.addprevious(pre)
    tails = []
    for line in listing.lines:
        tails.append(line.tail or "")
        line.tag, line.tail = "div", None
        pre.append(line)
    pre.tail = " ".join(tails) if any(map(str.strip, tails)) else None
    lines = line_count(code_text(pre))
    others = [child for child in listing.owner if child is not pre]
    are_numbers = counts(others, lines)
    for child in others:
        if are_numbers or _is_popup(child) or counts([child], lines):
            child.drop_tree()


def _is_popup(element: Element) -> bool:
    """Return whether Doxygen shows an element only while the pointer is over a name in the code."""
    return "ttc" in (element.get("class") or "").split()


def _read_pres(tree: Element) -> None:
    inside: set[Element] = set()
    for pre in list(tree.iter(*VERBATIM)):
        if pre not in inside:
            inside.update(pre.iterdescendants(*VERBATIM))
            _read_pre(pre)


def _read_pre(pre: Element) -> None:
    language = code_language(pre)
    titles = _take_titles(pre)
    numbers = line_numbers(pre) if len(pre) else set()
    code = code_text(pre, without=numbers)
    if numbers and (gap := separator(code, numbers)):
        code = "\n".join(line.removeprefix(gap) for line in code.split("\n"))
    _clear_sides(pre, line_count(code))
    known = next((title.lower() for title in titles if is_known(title)), "")
    _fill(pre, code, language or known)
    for title in titles:
        if not is_known(title):
            _add_title(pre, title)


def _fill(pre: Element, code: str, language: str) -> None:
    """Make code the only content of a `pre`; the line break that a browser skips is put before an empty line."""
    del pre[:]
    pre.text = f"\n{code}" if code.startswith("\n") else code
    _set_language(pre, language)


def _set_language(pre: Element, language: str) -> None:
    if language:
        pre.set(_LANGUAGE, language)


def _take_titles(pre: Element) -> list[str]:
    """Remove blocks above the only `code` of a `pre` and return their texts: a file name or the language."""
    codes = list(pre.iterdescendants("code"))
    if len(codes) != 1 or (pre.text or "").strip():
        return []
    titles = []
    element = codes[0]
    while element is not pre:
        for before in list(element.itersiblings(preceding=True)):
            if is_block(before) and (text := _title(before)):
                titles.append(text)
                before.drop_tree()
        element = element.getparent()
    return titles[::-1]


def _title(element: Element) -> str:
    text = " ".join(code_text(element, preserve=False).split())
    return text if len(text) <= _MAX_TITLE and not all(word.isdecimal() for word in text.split()) else ""


def _add_title(pre: Element, title: str) -> None:
    line = pre.makeelement("p")
    line.text = title
    pre.addprevious(line)


def _clear_sides(pre: Element, lines: int) -> None:
    """Remove what stands beside a listing and is no text: its line numbers, and what copies it."""
    element = pre
    for _ in range(_MAX_WRAPPERS):
        for sibling in _neighbours(element):
            if copies(sibling) or counts([sibling], lines):
                sibling.drop_tree()
        element = element.getparent()
        if element is None or element.tag in _FRAMES:
            return


def _neighbours(element: Element) -> list[Element]:
    found = []
    for is_before in (True, False):
        for sibling, _ in zip(element.itersiblings(preceding=is_before), range(_MAX_SIBLINGS), strict=False):
            found.append(sibling)
    return found


def _unwrap(table: Element, cells: list[Element]) -> None:
    """Replace a table by the listing in its cells, and its caption."""
    language = next((name for name in map(code_language, cells) if name), "") or code_language(table)
    if len(cells) == 1:
        kept = list(cells[0])
        pre = next(cells[0].iter("pre"))
        _set_language(pre, pre.get(_LANGUAGE) or language)
    else:
        pre = table.makeelement("pre")
        _fill(pre, "\n".join(code_text(cell).strip("\n") for cell in cells), language)
        kept = [pre]
    for element in [*table.iterchildren("caption"), *kept]:
        table.addprevious(element)
    table.drop_tree()
