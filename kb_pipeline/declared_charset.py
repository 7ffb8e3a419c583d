"""Finds the character encodings that a response declares: in its header, in a `meta` tag, in an XML declaration."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import webencodings

from kb_pipeline.media_types import parameters

REPLACEMENT = "replacement"
"""The encoding of labels that the Encoding Standard refuses (ISO-2022-KR, HZ): bytes that no browser shows."""

# One pass, each byte taken once: what a browser reads as text (comments, scripts, the title) holds no tags.
_TOKEN = re.compile(
    r"""
      <!--.*?(?:-->|\Z)
    | <(?P<raw>script|style|title|textarea|xmp|iframe|noframes)\b(?:"[^"]*"|'[^']*'|[^>"'])*+>?.*?(?:</(?P=raw)\b|\Z)
    | <\?xml\s(?P<xml>[^<>]{0,500})
    | <meta(?=[\s/])(?P<meta>(?:[^<>=]|=\s*(?:"[^"]*"|'[^']*')?)*)
    """,
    re.I | re.S | re.X,
)
_ATTRIBUTE = re.compile(r"""([^\s=/>"']+)\s*(?:=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]*)))?""")
_IN_CONTENT = re.compile(r"""charset\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s;"']+))""", re.I)
_SCANNED_BYTES = 1_000_000
# The standard reads content only beside http-equiv; generators misspell that one, and these name what is no charset.
_OTHER_METAS = frozenset({"name", "property", "itemprop"})


def declared_encodings(body: bytes, content_type: str) -> Iterator[webencodings.Encoding]:
    """Yield the encodings that a response declares, the one that browsers obey first; unknown labels are left out."""
    for label in reversed(parameters(content_type, "charset")):
        if encoding := lookup(label):
            yield encoding
    for label in _labels_in(body):
        if encoding := lookup(label):
            yield _readable_in_ascii(encoding)


def lookup(label: str) -> webencodings.Encoding | None:
    """Return the encoding with a label of the Encoding Standard; None if there is none."""
    return webencodings.lookup(label.strip().strip("\"'"))


def _readable_in_ascii(encoding: webencodings.Encoding) -> webencodings.Encoding:
    """Return what a declaration means that was itself read as ASCII (HTML, "change the encoding")."""
    if encoding.name.startswith("utf-16"):
        return webencodings.UTF8
    return webencodings.lookup("windows-1252") if encoding.name == "x-user-defined" else encoding


def _labels_in(body: bytes) -> Iterator[str]:
    text = body[:_SCANNED_BYTES].decode("latin-1")
    for token in _TOKEN.finditer(text):
        if token["meta"] is not None:
            yield from _label_of_meta(token["meta"])
        elif token["xml"] is not None:
            yield _attributes(token["xml"]).get("encoding", "")


def _label_of_meta(text: str) -> Iterator[str]:
    if "charset" not in text.lower():
        return
    attributes = _attributes(text)
    if "charset" in attributes:
        yield attributes["charset"]
    elif not attributes.keys() & _OTHER_METAS and (found := _IN_CONTENT.search(attributes.get("content", ""))):
        yield found[1] or found[2] or found[3] or ""


def _attributes(text: str) -> dict[str, str]:
    """Return attributes by name; of two with one name the first counts."""
    found: dict[str, str] = {}
    for name, double, single, bare in _ATTRIBUTE.findall(text):
        found.setdefault(name.lower(), html.unescape(double or single or bare))
    return found
