"""Reads Content-Type headers as browsers do, and worse ones than those."""

from __future__ import annotations

import re

FEED_TYPES = frozenset({"application/rss+xml", "application/atom+xml"})

_PIECE = re.compile(r'(?:[^",;]|"(?:[^"\\]|\\.)*(?:"|\Z))+')
_TYPE = re.compile(r"([\w!#$&^.+*-]+/[\w!#$&^.+*-]+)(?=[\s:/]|\Z)")
_PARAMETER = re.compile(r"""([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"?|'([^']*)'?|([^\s;,]*))""")
_AROUND = " \t\"'"


def media_type(content_type: str) -> str:
    """Return the bare media type, in lower case: `text/html` for `Text/HTML; charset=utf-8`.

    Of a list the last type counts (Fetch, "extract a MIME type"); empty when the header names none, as `html` does.
    """
    found = ""
    for piece in _PIECE.findall(content_type):
        match = _TYPE.match(piece.strip(_AROUND))
        if match and (match[1] != "*/*" or not found):
            found = match[1].lower()
    return found


def parameters(content_type: str, name: str) -> list[str]:
    """Return the values of a parameter, in order; also where a blank stands for the semicolon before it."""
    matches = (_PARAMETER.match(_after_type(piece)) for piece in _PIECE.findall(content_type))
    return [match[2] or match[3] or match[4] or "" for match in matches if match and match[1].lower() == name]


def _after_type(piece: str) -> str:
    bare = piece.strip()
    match = _TYPE.match(bare.lstrip(_AROUND))
    return bare.lstrip(_AROUND)[match.end() :].lstrip(" \t:/'") if match else bare
