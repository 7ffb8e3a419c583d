"""Writes MathML as TeX: fractions, scripts, roots, fences and matrices, so that no number loses its place.

After presentation MathML 3 (https://www.w3.org/TR/MathML3/chapter3.html). Elements that only style are their content.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any

Element = Any

_MAX_DEPTH = 60
"""Levels that are told apart; deeper ones are written as text, so that recursion stays shallow."""
_OPERATORS_TEXT = """
    − - × \\times · \\cdot ⋅ \\cdot ÷ \\div ± \\pm ∓ \\mp ∗ * ≤ \\le ≥ \\ge ≠ \\ne ≈ \\approx ≡ \\equiv ∼ \\sim
    ∝ \\propto → \\to ← \\leftarrow ↔ \\leftrightarrow ⇒ \\Rightarrow ⇔ \\Leftrightarrow ↦ \\mapsto ∞ \\infty
    ∑ \\sum ∏ \\prod ∫ \\int ∬ \\iint ∮ \\oint ∂ \\partial ∇ \\nabla ∈ \\in ∉ \\notin ∋ \\ni ⊂ \\subset ⊆ \\subseteq
    ⊃ \\supset ∪ \\cup ∩ \\cap ∖ \\setminus ∅ \\emptyset ∀ \\forall ∃ \\exists ¬ \\neg ∧ \\wedge ∨ \\vee ⊕ \\oplus
    ⊗ \\otimes … \\dots ⋯ \\cdots ⋮ \\vdots ⋱ \\ddots ⟨ \\langle ⟩ \\rangle ⌊ \\lfloor ⌋ \\rfloor ⌈ \\lceil
    ⌉ \\rceil ‖ \\| ∥ \\| ∣ | ′ ' ″ '' ∘ \\circ ⊥ \\perp ∠ \\angle ℏ \\hbar ℓ \\ell { \\{ } \\} % \\% # \\# & \\&
    $ \\$ _ \\_
"""
_WORDS = _OPERATORS_TEXT.split()
_OPERATORS = dict(zip(_WORDS[::2], _WORDS[1::2], strict=True)) | dict.fromkeys("\u2061\u2062\u2063\u2064", "")
_SPACED = re.compile(
    r"[=<>+\-]|\\(?:le|ge|ne|approx|equiv|sim|propto|to|[lL]eft.*|Rightarrow|mapsto|in|notin|pm|times)"
)
_FUNCTIONS_TEXT = """
    arccos arcsin arctan arg cos cosh cot coth csc deg det dim exp gcd hom inf ker lg lim liminf limsup ln log max
    min Pr sec sin sinh sup tan tanh
"""
_FUNCTIONS = frozenset(_FUNCTIONS_TEXT.split())
_LIMITS = frozenset({"\\sum", "\\prod", "\\int", "\\iint", "\\oint", "\\lim", "\\max", "\\min", "\\sup", "\\inf"})
_VARIANTS = {
    "normal": "\\mathrm", "bold": "\\mathbf", "double-struck": "\\mathbb", "script": "\\mathcal",
    "fraktur": "\\mathfrak", "sans-serif": "\\mathsf", "monospace": "\\mathtt",
}  # fmt: skip
_OVER = {
    "^": "\\hat", "ˆ": "\\hat", "̂": "\\hat", "¯": "\\overline", "‾": "\\overline", "―": "\\overline", "-": "\\bar",
    "→": "\\vec", "⃗": "\\vec", "~": "\\tilde", "˜": "\\tilde", "˙": "\\dot", ".": "\\dot", "¨": "\\ddot",
    "⏞": "\\overbrace", "ˇ": "\\check",
}  # fmt: skip
_UNDER = {"_": "\\underline", "̲": "\\underline", "⏟": "\\underbrace"}
_MATRICES = {"()": "pmatrix", "[]": "bmatrix", "||": "vmatrix", "‖‖": "Vmatrix", "{": "cases", "{}": "Bmatrix"}
_LETTER_VARIANTS = frozenset(
    {"OMEGA", "THETA", "SIGMA", "PHI", "PSI", "LAMDA", "GAMMA", "DELTA", "XI", "PI", "UPSILON"}
)


def tex_of(math: Element) -> str:
    """Return the TeX of a `math` element; empty if it shows nothing."""
    return re.sub(r"\s+", " ", _row(math, 0)).strip()


def local_name(element: Element) -> str:
    """Return the name of an element without namespace or prefix; empty for comments."""
    tag = element.tag
    return re.split(r"[}:]", tag)[-1].lower() if isinstance(tag, str) else ""


def _write(element: Element, depth: int) -> str:
    if depth > _MAX_DEPTH:
        return " ".join("".join(element.itertext()).split())
    writer = _WRITERS.get(local_name(element))
    return writer(element, depth + 1) if writer else _row(element, depth + 1)


def _row(element: Element, depth: int) -> str:
    children = list(element)
    if not children:
        return _plain(element.text or "")
    if (matrix := _fenced_table(children, depth)) is not None:
        return matrix
    return join([_write(child, depth) for child in children])


def join(pieces: list[str]) -> str:
    """Join pieces of TeX, with a space where a command would swallow the letter after it."""
    out = ""
    parts: list[str] = []
    for piece in filter(None, pieces):
        if re.search(r"\\[A-Za-z]+$", out[-40:]) and piece[0].isalpha():
            parts.append(" ")
        parts.append(piece)
        out = piece
    return "".join(parts)


def _arguments(element: Element, depth: int, count: int) -> list[str]:
    found = [_write(child, depth) for child in list(element)[:count]]
    return found + [""] * (count - len(found))


def _identifier(element: Element, _: int) -> str:
    text = "".join(element.itertext()).strip()
    if len(text) > 1:
        return f"\\{text}" if text in _FUNCTIONS else f"\\mathrm{{{_plain(text)}}}" if text.isalpha() else _plain(text)
    command = _VARIANTS.get(element.get("mathvariant", ""))
    return f"{command}{{{_plain(text)}}}" if command and text else _plain(text)


def _plain(text: str) -> str:
    """Return characters as TeX; Greek letters by their names."""
    return join([_character(char) for char in " ".join(text.split())])


def _character(char: str) -> str:
    if char in _OPERATORS:
        return _OPERATORS[char]
    if "\u0391" <= char <= "\u03f5" and (name := unicodedata.name(char, "")).startswith("GREEK "):
        *_, size, _letter, letter = ["", *name.split()] if name.count(" ") == 3 else ["", "", ""]
        if size == "CAPITAL" and letter in _LETTER_VARIANTS:
            return f"\\{letter.replace('LAMDA', 'LAMBDA').capitalize()}"
        if size == "SMALL" and letter != "OMICRON":
            return f"\\{letter.replace('LAMDA', 'LAMBDA').lower()}"
    return char


def _operator(element: Element, _: int) -> str:
    text = "".join(element.itertext()).strip()
    if text in _FUNCTIONS:
        return f"\\{text}"
    written = f"\\mathrm{{{text}}}" if len(text) > 1 and text.isalpha() else _plain(text)
    is_infix = element.getprevious() is not None and element.get("stretchy") != "true"
    return f" {written} " if is_infix and _SPACED.fullmatch(written) else written


def _text(element: Element, _: int) -> str:
    text = " ".join("".join(element.itertext()).split())
    escaped = re.sub(r"([{}%#&$_])", r"\\\1", text)
    return f"\\text{{{escaped}}}" if text else " "


def _fraction(element: Element, depth: int) -> str:
    above, below = _arguments(element, depth, 2)
    if element.get("linethickness", "").rstrip("pxemt.") == "0":
        return f"{{{above} \\atop {below}}}"
    return f"\\frac{{{above}}}{{{below}}}"


def _square_root(element: Element, depth: int) -> str:
    return f"\\sqrt{{{_row(element, depth)}}}"


def _root(element: Element, depth: int) -> str:
    radicand, index = _arguments(element, depth, 2)
    return f"\\sqrt[{index}]{{{radicand}}}"


def _scripts(below: bool, above: bool) -> Callable[[Element, int], str]:
    def write(element: Element, depth: int) -> str:
        base, *rest = _arguments(element, depth, 1 + below + above)
        sub = rest[0] if below else ""
        sup = rest[-1] if above else ""
        return _with_scripts(_base(element, base), sub, sup)

    return write


def _base(element: Element, written: str) -> str:
    """Return the base of a script, in braces if it is a row of its own."""
    is_row = len(element) > 0 and local_name(element[0]) in ("mrow", "mstyle", "mfrac", "msup", "msub", "msubsup")
    return f"{{{written}}}" if is_row and len(written) > 1 else written


def _with_scripts(base: str, sub: str, sup: str) -> str:
    base = base.strip()
    below = f"_{{{sub.strip()}}}" if sub.strip() else ""
    if sup.strip() and not sup.strip("' "):
        return f"{base}{sup.strip()}{below}"
    return f"{base}{below}" + (f"^{{{sup.strip()}}}" if sup.strip() else "")


def _around(below: bool, above: bool) -> Callable[[Element, int], str]:
    def write(element: Element, depth: int) -> str:
        base, *rest = (part.strip() for part in _arguments(element, depth, 1 + below + above))
        marks = ["".join(child.itertext()).strip() for child in list(element)[1:]]
        if base in _LIMITS:
            return _with_scripts(base, rest[0] if below else "", rest[-1] if above else "")
        accents = _OVER if above and not below else _UNDER if below and not above else {}
        if marks and marks[0] in accents:
            return f"{accents[marks[0]]}{{{base}}}"
        inner = f"\\underset{{{rest[0]}}}{{{base}}}" if below else base
        return f"\\overset{{{rest[-1]}}}{{{inner}}}" if above else inner

    return write


def _multiscripts(element: Element, depth: int) -> str:
    base, *scripts = list(element) or [element]
    before = next((i for i, child in enumerate(scripts) if local_name(child) == "mprescripts"), len(scripts))
    after = [_write(child, depth) for child in scripts[:before]]
    prefix = [_write(child, depth) for child in scripts[before + 1 :]]
    leading = "".join(_with_scripts("{}", *pair) for pair in _pairs(prefix))
    written = _write(base, depth) if base is not element else ""
    for sub, sup in _pairs(after):
        written = _with_scripts(written, sub, sup)
    return leading + written


def _pairs(items: list[str]) -> list[tuple[str, str]]:
    padded = items + [""] * (len(items) % 2)
    return list(zip(padded[::2], padded[1::2], strict=True))


def _fenced(element: Element, depth: int) -> str:
    opening, closing = element.get("open", "("), element.get("close", ")")
    children = list(element)
    if len(children) == 1 and local_name(children[0]) == "mtable" and opening + closing in _MATRICES:
        return _table(children[0], depth, _MATRICES[opening + closing])
    separator = _plain(element.get("separators", ",").strip()[:1])
    inner = f"{separator} ".join(_write(child, depth) for child in children)
    return f"{_plain(opening)}{inner}{_plain(closing)}"


def _fenced_table(children: list[Element], depth: int) -> str | None:
    """Return a matrix between two fences, or the cases behind a brace; None for any other row."""
    tables = [place for place, child in enumerate(children) if local_name(child) == "mtable"]
    if len(tables) != 1 or len(children) > 3 or tables[0] != 1:
        return None
    fences = "".join("".join(child.itertext()).strip() for child in children if local_name(child) == "mo")
    return _table(children[1], depth, _MATRICES[fences]) if fences in _MATRICES else None


def _table(element: Element, depth: int, kind: str = "matrix") -> str:
    rows = []
    for row in element:
        is_labelled = local_name(row) == "mlabeledtr"
        cells = [_row(cell, depth + 1) for cell in list(row)[is_labelled:]]
        rows.append(" & ".join(cell.strip() for cell in cells))
    if len(rows) == 1 and kind == "matrix" and "&" not in rows[0]:
        return rows[0]
    body = " \\\\ ".join(rows)
    return f"\\begin{{{kind}}} {body} \\end{{{kind}}}"


def _first_child(element: Element, depth: int) -> str:
    return _write(element[0], depth) if len(element) else _plain(element.text or "")


def _nothing(_: Element, __: int) -> str:
    return ""


def _space(_: Element, __: int) -> str:
    return " "


_WRITERS: dict[str, Callable[[Element, int], str]] = {
    "mi": _identifier, "mo": _operator, "mtext": _text, "ms": _text, "mspace": _space, "mfrac": _fraction,
    "msqrt": _square_root, "mroot": _root, "msub": _scripts(True, False), "msup": _scripts(False, True),
    "msubsup": _scripts(True, True), "munder": _around(True, False), "mover": _around(False, True),
    "munderover": _around(True, True), "mmultiscripts": _multiscripts, "mfenced": _fenced, "mtable": _table,
    "semantics": _first_child, "maction": _first_child, "mphantom": _nothing, "annotation": _nothing,
    "annotation-xml": _nothing, "none": _nothing, "mprescripts": _nothing,
}  # fmt: skip
