"""Decodes a body as browsers do: byte order mark, header, meta tag, then UTF-8 or windows-1252."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_HEADER = re.compile(r"charset\s*=\s*[\"']?([\w.:+-]+)", re.I)
_META = re.compile(rb"<(?:meta\b[^>]{0,500}?charset\s*=|\?xml\b[^>]{0,200}?encoding\s*=)\s*[\"']?([\w.:+-]+)", re.I)
_COMMENT = re.compile(rb"<!--.*?-->", re.S)
# WHATWG: pages that say Latin-1 or ASCII mean windows-1252, and so on for the Asian supersets.
_SUPERSETS = {
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
    "iso8859-9": "cp1254",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
}
# Characters that do not belong in text: C0 controls except tab, newline and carriage return, and surrogates.
_UNWANTED = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\x0b\x0c\x1b"))
_MAX_DAMAGE_SHARE = 0.02


def decode(body: bytes, content_type: str) -> str | None:
    """Return the body as text without NULs, controls and surrogates; None when it is binary."""
    for bom, name in _BOMS:
        if body.startswith(bom):
            return clean_text(body[len(bom) :].decode(name, "replace"))
    if text := _utf16_without_bom(body):
        return clean_text(text)
    if _is_binary(body):
        return None
    text = next(_candidates(body, content_type), None)
    return clean_text(text if text is not None else _cp1252(body))


def clean_text(text: str) -> str:
    """Return the text with uniform line ends and without characters that stores or parsers reject."""
    return _UNWANTED.sub("", text.replace("\r\n", "\n").replace("\r", "\n").replace("\x0c", "\n"))


def _candidates(body: bytes, content_type: str) -> Iterator[str]:
    """Yield the decodings that fit, best first; a declared charset that contradicts the bytes is ignored."""
    for label in _declared(body, content_type):
        text = body.decode(label, "replace")
        if text.count("\ufffd") <= _MAX_DAMAGE_SHARE * len(text) / 10:
            # Valid UTF-8 with multi-byte letters is practically never anything else.
            if label != "utf-8" and not body.isascii() and (utf8 := _strict_utf8(body)) is not None:
                text = utf8 if label.startswith(("cp125", "iso8859", "latin")) else text
            yield text
    text = body.decode("utf-8", "replace")
    if text.count("\ufffd") <= _MAX_DAMAGE_SHARE * max(len(text), 1) and not _looks_like_cp1252(body, text):
        yield text


def _declared(body: bytes, content_type: str) -> Iterator[str]:
    header = _HEADER.search(content_type)
    meta = _META.search(_COMMENT.sub(b"", body[:4096]))
    for label in (header and header[1], meta and meta[1].decode("ascii", "replace")):
        if label and (name := _codec(label)):
            yield name


def _codec(label: str) -> str | None:
    """Return Python's name of a charset; None for an unknown one or for a codec that is no charset."""
    try:
        info = codecs.lookup(label.strip().lower())
    except (LookupError, ValueError):
        return None
    if not getattr(info, "_is_text_encoding", True) or info.name in (
        "idna",
        "punycode",
        "unicode_escape",
        "utf-7",
    ):
        return None
    # A label found by reading ASCII cannot be UTF-16 without a byte order mark.
    return "utf-8" if info.name.startswith(("utf-16", "utf-32")) else _SUPERSETS.get(info.name, info.name)


def _strict_utf8(body: bytes) -> str | None:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _looks_like_cp1252(body: bytes, as_utf8: str) -> bool:
    """Return whether most bytes beyond ASCII are invalid UTF-8, however few they are."""
    high = sum(1 for byte in body[:65536] if byte >= 128)
    return high > 0 and as_utf8[:65536].count("\ufffd") * 2 > high


def _cp1252(body: bytes) -> str:
    """Decode as windows-1252, which never fails: the five unassigned bytes become the replacement character."""
    return body.decode("cp1252", "replace")


def _utf16_without_bom(body: bytes) -> str | None:
    """Return the body decoded as UTF-16 if, as in text of mostly Latin letters, every second byte is NUL; else None."""
    sample = body[:1000]
    if len(sample) < 8 or sample.count(0) * 5 < len(sample) * 2:
        return None
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if min(even, odd) * 10 > max(even, odd):
        return None
    return body.decode("utf-16-be" if even > odd else "utf-16-le", "replace")


def _is_binary(body: bytes) -> bool:
    """Return whether there are too many control characters for a text with a few stray bytes."""
    sample = body[:65536]
    controls = len(sample) - len(sample.translate(None, _CONTROLS))
    return controls > max(8, _MAX_DAMAGE_SHARE * len(sample))
