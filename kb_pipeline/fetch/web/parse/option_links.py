"""Finds the addresses that a page offers in `select` elements, whose scripts take the reader there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from selectolax.lexbor import LexborHTMLParser, LexborNode

_MAX_CHARS = 2000
_MAX_HANDLER_CHARS = 500
_PAGE = r"(?:[sx]?html?|php\d?|aspx?|jspx?|cfm|cgi)"
_ADDRESS = re.compile(
    rf"https?://.+|//[^/]+\.[^/]+.*|\.{{0,2}}/.*|\?[\w.-]+=.*"
    rf"|[\w.%~+/-]+\.{_PAGE}(?:[?#].*)?|[\w%~+-][\w.%~+-]*/(?:[^/]+/)*",
    re.IGNORECASE,
)
"""What is an address wherever it stands. `Europe/Berlin`, `text/html` and `km/h` are values of a form."""
_PATH = re.compile(r"[^\s<>\"'{}|\\^]*[/.][^\s<>\"'{}|\\^]*")
"""What may be an address where a class or an attribute says that the list navigates."""
_NAVIGATES = re.compile(r"jump|go-?to|navigat|(?:^|[-_\s])nav(?:$|[-_\s])|redirect|quick-?links?|change-?page", re.I)
_GOES = re.compile(
    r"""(?:(?<!\w)location(?:\.(?:href|search|pathname))?\s*=(?!=)
       |(?:location\.(?:assign|replace)|(?<!\w)open|\w{0,40}(?:jump|goto|navigate|redirect)\w{0,40})\s*\()\s*
    (?:(?:(['"])(?P<prefix>[^'"]{0,200})\1\s*\+\s*)?[\w.$\[\]()]{1,150}?val(?:ue)?(?:\(\))?\s*
       (?:\+\s*(['"])(?P<suffix>[^'"]{0,200})\3\s*)?(?:[;,)}]|$))?""",
    re.IGNORECASE | re.VERBOSE,
)
"""Where a handler goes to: `location = '/docs/' + this.value + '/'`, `window.open(this.value)`, `jumpMenu(this)`."""
_DATA = ("data-url", "data-href", "data-link", "data-target-url")


@dataclass(frozen=True, slots=True)
class _List:
    """What is known of one `select`: whether it navigates, and what its script writes around a value."""

    goes: bool = False
    """Whether its handler goes to the chosen value, whatever that looks like."""
    looks_so: bool = False
    """Whether its class, its id or an attribute says that it navigates."""
    prefix: str = ""
    suffix: str = ""

    def address(self, value: str) -> str:
        """Return the address that a value stands for; empty if it is a value of a form."""
        if not value or len(value) > _MAX_CHARS or value[0] == "#" or any(char.isspace() for char in value):
            return ""
        if self.goes:
            return self.prefix + value + self.suffix
        is_address = _ADDRESS.fullmatch(value) or (self.looks_so and _PATH.fullmatch(value))
        return value if is_address else ""


def option_links(tree: LexborHTMLParser) -> Iterator[str]:
    """Yield the addresses of all options that lead to one, as they are written, in page order."""
    for select in tree.css("select"):
        found = _read(select)
        for option in select.css("option"):
            attributes = option.attributes
            if href := found.address((attributes.get("value") or "").strip()):
                yield href
            yield from (href for name in _DATA if (href := _List().address((attributes.get(name) or "").strip())))


def _read(select: LexborNode) -> _List:
    attributes = select.attributes
    handler = " ".join(attributes.get(name) or "" for name in ("onchange", "oninput", "onclick"))[:_MAX_HANDLER_CHARS]
    if went := _GOES.search(handler):
        is_read = went["prefix"] or went["suffix"]
        if is_read or "+" not in handler:
            return _List(goes=True, prefix=went["prefix"] or "", suffix=went["suffix"] or "")
    signs = [name for name in attributes if name.startswith("data-")]
    signs += [attributes.get(name) or "" for name in ("class", "id", "name", "data-action", "data-controller")]
    return _List(looks_so=any(_NAVIGATES.search(sign[:_MAX_HANDLER_CHARS]) for sign in signs))
