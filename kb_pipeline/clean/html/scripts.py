"""Writes out what raised, lowered and small characters mean: powers, indices, ordinals, cents, readings of ruby.

Without their places "10⁶" would read 106, "x₁" x1, "$12⁹⁹" $1299 and "漢字" with its reading 漢字かんじ.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

from kb_pipeline.clean.html.maths import is_formula
from kb_pipeline.clean.html.text_start import text_start

Element = Any

_VERBATIM = frozenset({"pre", "xmp", "listing", "textarea", "svg", "script", "style"})
_INLINE_TEXT = """
    a abbr b bdi bdo big cite code data dfn em font i ins kbd label mark s samp small span strong sub sup time tt u
    var
"""
_INLINE = frozenset(_INLINE_TEXT.split())
_SCRIPTS = frozenset({"sup", "sub", "small"})
_CENTS_NAMES = re.compile(r"cents?|decimals?|fraction|pence|centimes", re.I)
_CURRENCY = (
    r"(?:[$€£¥₹₽₩₺₴₫₪฿]|\b(?:EUR|USD|GBP|CHF|SEK|NOK|DKK|PLN|CZK|HUF|CAD|AUD|NZD|JPY|CNY|INR|BRL|MXN|ZAR|Fr|kr|zł|Kč"
    r"|лв|lei)\b)"
)
_AFTER_CURRENCY = re.compile(_CURRENCY + r"[.\s\xa0]*\d[\d.,'’\s\xa0]*$")
_BEFORE_CURRENCY = re.compile(r"[\s\xa0]*[*]?" + _CURRENCY)
_COMMA_LANGUAGES_TEXT = """
    de fr es it nl pl pt cs sk hu ro bg ru uk sv nb nn no da fi el hr sl sr tr lt lv et ca
"""
_COMMA_LANGUAGES = frozenset(_COMMA_LANGUAGES_TEXT.split())
_ORDINALS_TEXT = """
    st nd rd th e er re ère ere ème eme nde ᵉ
"""
_ORDINALS = frozenset(_ORDINALS_TEXT.split())
_MARKS = {"TM": "™", "SM": "℠"}
_POWER = re.compile(r"[-+−–]?(?:\d{1,4}(?:[.,/]\d+)?|[^\W\d_])|[-+−–]|\d[-+−–]")
_EXPRESSION = re.compile(r"(?=[^\s]*[\d+\-−–*/=()])[\w+\-−–*/=(),.′']+(?:\s*[+\-−–*/=]\s*[\w()]+)*")
_GREEK = re.compile("[\u0391-\u03c9]")
_VARIABLE = re.compile(r"(?<![^\W\d_])[a-z]$")
_INDEX = re.compile(r"\w{1,12}")
_ELEMENTS_TEXT = """
    H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb
    Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au
    Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am
"""
_ELEMENTS = frozenset(_ELEMENTS_TEXT.split())
_MAX_SCRIPT = 40
_REACH = 24
"""Characters before a script that are looked at."""


def write_scripts(tree: Element) -> None:
    """Write out the scripts of a page; those inside code listings stay as they are."""
    has_comma = (tree.get("lang") or "")[:2].lower() in _COMMA_LANGUAGES
    for element in list(tree.iter("sup", "sub", "small", "span", "b", "em", "i", "strong")):
        if element.tag not in _SCRIPTS and not _CENTS_NAMES.search((element.get("class") or "")[:200]):
            continue
        text = _short_text(element)
        if text and not _is_verbatim(element):
            _write(element, text, "," if has_comma else ".")
    for reading in list(tree.iter("rt")):
        _enclose(reading)


def _write(element: Element, text: str, decimal_point: str) -> None:
    before = text_before(element)
    if element.tag != "sub" and _is_cents(element, text, before):
        _set_text(element, text if before[-1:] in ".," else decimal_point + text)
    elif element.tag == "sup":
        _set_text(element, _raised(text, before))
    elif element.tag == "sub":
        _set_text(element, _lowered(text, before))


def _is_cents(element: Element, text: str, before: str) -> bool:
    """Return whether two digits behind a number are its decimals: there is a currency before or behind them."""
    if not re.fullmatch(r"\d\d", text) or not re.search(r"\d[.,]?\s?$", before):
        return False
    if _AFTER_CURRENCY.search(before):
        return True
    return _BEFORE_CURRENCY.match(_text_after(element)) is not None


def _raised(text: str, before: str) -> str:
    """Return what a superscript says behind some text: 10^6, x^{n+1}, 1st, Brand™."""
    if text in _MARKS or text[0] in ".,":
        return _MARKS.get(text, text)
    last = before[-1:]
    if text.lower() in _ORDINALS and re.search(r"(?:\d|\b[IVXLCDM]+)$", before):
        return text
    if _POWER.fullmatch(text):
        is_braced = text[-1] in "-+−–" and len(text) > 1
        return f"^{{{text}}}" if is_braced else f"^{text}"
    is_variable = _GREEK.search(text) or (len(text) < 4 and text.isalpha() and _VARIABLE.search(before))
    if (last.isalnum() or last in (")", "]", "}")) and (is_variable or _EXPRESSION.fullmatch(text)):
        return f"^{{{text}}}"
    is_word = text.isalpha() and (len(text) > 4 or not text.islower())
    return f" {text}" if is_word and last.isalpha() else text


def _lowered(text: str, before: str) -> str:
    """Return what a subscript says behind some text: H2O as it is, x_1, log_2, V_in, x_{n+1}."""
    last = before[-1:]
    if (not last.isalnum() and last not in (")", "]")) or len(text) > 12:
        return text
    if text.isdecimal() and (last in ")]" or _is_chemical(before)):
        return text
    return f"_{text}" if _INDEX.fullmatch(text) else f"_{{{text}}}" if _EXPRESSION.fullmatch(text) else text


def _is_chemical(before: str) -> bool:
    symbol = re.search(r"[A-Z][a-z]?$", before)
    return symbol is not None and symbol[0] in _ELEMENTS


def _set_text(element: Element, text: str) -> None:
    """Replace the content of an element, unless it is written as it is: then its emphasis stays."""
    if text != _short_text(element):
        for child in list(element):
            element.remove(child)
        element.text = text


def _short_text(element: Element) -> str:
    """Return the text of a script; empty if it is long, a link or a formula, which are written as they are."""
    if any(part.tag in ("a", "img", "svg") or is_formula(part) for part in islice(element.iterdescendants(), 6)):
        return ""
    text = " ".join(text_start(element, 12).split())
    return text if len(text) <= _MAX_SCRIPT else ""


def _is_verbatim(element: Element) -> bool:
    return any(ancestor.tag in _VERBATIM for ancestor in islice(element.iterancestors(), 10))


def text_before(element: Element) -> str:
    """Return the last characters before an element in its paragraph."""
    found, node = "", element
    for _ in range(12):
        before = node.getprevious()
        if before is None:
            node = node.getparent()
            if node is None:
                break
            found = (node.text or "")[-_REACH:] + found
        else:
            node = before
            found = ("" if before.tag == "br" else _end_of(before)) + (before.tail or "")[-_REACH:] + found
        if len(found) >= _REACH or node.tag not in _INLINE:
            break
    return found[-_REACH:]


def _end_of(element: Element) -> str:
    """Return the end of an element's text, looking at its last descendants only."""
    if len(list(islice(element.iter(), 10))) < 10:
        return text_start(element, 10)[-_REACH:]
    last = element
    while len(last) and not last[-1].tail:
        last = last[-1]
    return str((last[-1].tail if len(last) else last.text) or "")[-_REACH:]


def _text_after(element: Element) -> str:
    """Return the first characters behind an element in its paragraph."""
    found, node = "", element
    for _ in range(6):
        found += (node.tail or "")[:_REACH]
        following = node.getnext()
        if found.strip() or following is not None:
            found += text_start(following, 3)[:_REACH] if following is not None else ""
            break
        node = node.getparent()
        if node is None or node.tag not in _INLINE:
            break
    return found


def _enclose(reading: Element) -> None:
    """Put the reading of a ruby in parentheses, where `rp` does not do so."""
    before = reading.getprevious()
    text = text_start(reading, 50).strip()
    if text and (before is None or before.tag != "rp"):
        for child in list(reading):
            reading.remove(child)
        reading.text = f"({text})"
