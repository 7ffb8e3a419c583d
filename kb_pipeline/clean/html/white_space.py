"""Finds the elements whose line breaks and spaces a browser shows, by their style or by the style sheet in the page."""

from __future__ import annotations

import re

from kb_pipeline.clean.html.code_text import Element, style_of

_VALUE = re.compile(r"white-space(?:-collapse)?:(pre-wrap|pre-line|pre|break-spaces|preserve)\b")
_SELECTOR = re.compile(r"\s*([a-zA-Z][a-zA-Z0-9]*)?(?:([.#])([\w-]+))?\s*")
_MAX_SHEET = 500_000


class WhiteSpace:
    """The elements of one page whose white space is shown."""

    def __init__(self, tree: Element) -> None:
        self._rules: set[tuple[str, str, str]] = set()
        """Tag, kind (`.`, `#` or none) and name of each simple selector."""
        for sheet in tree.iter("style"):
            text = (sheet.text or "")[:_MAX_SHEET]
            if "white-space" in text:
                self._read(_without_comments(text))

    def shows(self, element: Element) -> bool:
        """Return whether an element's own style, or a rule for its class, keeps its line breaks."""
        if element.get("style") is not None and _VALUE.search(style_of(element)):
            return True
        return bool(self._rules) and self._has_rule(element)

    def _read(self, sheet: str) -> None:
        for rule in sheet.split("}"):
            selectors, _, declarations = rule.rpartition("{")
            if not _VALUE.search("".join(declarations.lower().split())):
                continue
            for selector in selectors.rpartition("{")[2].split(","):
                simple = _SELECTOR.fullmatch(selector)
                if simple is not None and (simple[1] or simple[3]):
                    self._rules.add((simple[1] or "", simple[2] or "", simple[3] or ""))

    def _has_rule(self, element: Element) -> bool:
        named = [("", "")]
        named += [(".", name) for name in (element.get("class") or "")[:1000].split()]
        named += [("#", element.get("id") or "")]
        return any((tag, kind, name) in self._rules for kind, name in named for tag in ("", element.tag))


def _without_comments(sheet: str) -> str:
    first, *others = sheet.split("/*")
    return first + "".join(other.partition("*/")[2] for other in others)
