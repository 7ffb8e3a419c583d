"""Reads how a page that is none sends its reader on: a refresh, or a script that does nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable

LONGEST_DELAY_S = 5
"""A refresh after at most so many seconds is a redirect; a later one leaves time to read the page."""
MOST_REFRESHES = 20
"""Refreshes of a page that are read."""
MOST_SCRIPTS = 10
"""Scripts of a stub: a page with more is none."""
MOST_WORDS = 50
"""Visible words up to which a page is a stub that its script leads away from."""
_SPACE = " \t\n\f\r"
_DELAY = re.compile(rf"[{_SPACE}]*(?:(\d+)[\d.]*|\.[\d.]*)(?=[{_SPACE};,]|$)[{_SPACE}]*[;,]?[{_SPACE}]*", re.ASCII)
_URL = re.compile(rf"url[{_SPACE}]*=[{_SPACE}]*", re.IGNORECASE)
_MOST_SCRIPT_CHARS = 600
_GOES = re.compile(
    r"""(?<![\w.])(?:(?:window|document|self|top|parent)\s*\.\s*){0,2}location\s*
    (?:(?:\.\s*href\s*)?=(?!=)\s*|\.\s*(?:replace|assign)\s*\(\s*)
    (?:(?P<quote>["'])(?P<target>[^"'\\\n]{1,2000})(?P=quote))?""",
    re.VERBOSE,
)
_SAME_PLACE = re.compile(r"\s*(?!\s*\+)|\s*\+\s*\(?\s*(?:anchor|hash|(?:\w+\.)?location\.(?:hash|search))\b")
"""What may follow a literal address: nothing that makes another one of it, as `+ id` would."""
_DECIDES = re.compile(
    r"\b(?:if|switch|navigator|screen|confirm|onclick|addEventListener|function\s+\w+"
    r"|textContent|innerText|innerHTML|append|appendChild|createElement|fetch|XMLHttpRequest)\b"
)
"""What makes a script go elsewhere for some readers only (small screens, frames, those who click), or do more."""


def read_refresh(content: str) -> tuple[int, str] | None:
    """Return the seconds and the target, as written, of a `Refresh` header or meta element; None if it is malformed.

    The target is empty where the page only loads itself again. The steps are those of browsers: HTML Standard,
    "shared declarative refresh steps". `0;URL='new.html'`, `0; new.html` and `0 url = new.html` lead to one place.
    """
    delay = _DELAY.match(content)
    if delay is None:
        return None
    target = content[delay.end() :]
    if named := _URL.match(target):
        target = target[named.end() :]
    if target[:1] in ("'", '"'):
        target = target[1:].partition(target[0])[0]
    seconds = (delay[1] or "0").lstrip("0")
    return (int(seconds or 0) if len(seconds) < 9 else 10**9), target.strip()


def refresh_target(refreshes: Iterable[tuple[bool, str]]) -> str:
    """Return where refreshes lead every reader; each has whether it is for readers without scripts, and its target."""
    return next((target for is_fallback, target in refreshes if target and not is_fallback), "")


def stub_target(refreshes: Iterable[tuple[bool, str]], scripts: Iterable[str]) -> str:
    """Return where a page leads that has next to no text and a script that goes on, by a refresh or that script."""
    return next((target for _, target in refreshes if target), "") or script_target(scripts)


def goes_on(scripts: Iterable[str]) -> bool:
    """Return whether a script of a page leads away from it."""
    return any(_GOES.search(script) for script in scripts if len(script) <= _MOST_SCRIPT_CHARS)


def script_target(scripts: Iterable[str]) -> str:
    """Return the address, as written, to which the scripts of a stub lead every reader; empty if there is none such."""
    found = ""
    for script in scripts:
        match = _GOES.search(script) if len(script) <= _MOST_SCRIPT_CHARS else None
        if match is not None:
            if _DECIDES.search(script) or not _SAME_PLACE.match(script, match.end()):
                return ""
            found = found or match["target"] or ""
    return found
