"""Decodes a body as browsers do: byte order mark, declaration, then UTF-8 or what a detector finds."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterable
from itertools import pairwise

from kb_pipeline.declared_charset import REPLACEMENT, declared_encodings

UTF16_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
# Decoders in Python by the encodings of the standard that have more characters than the decoder of the same name.
_WIDER = {"gbk": ("gb18030",), "euc_jp": ("euc_jp", "euc_jis_2004"), "iso2022_jp": ("iso2022_jp_ext", "iso2022_jp_3")}
_DETECTED_TEXT = """
    utf-8 cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 cp874 koi8-r koi8-u cp866 mac-cyrillic
    iso8859-1 iso8859-2 iso8859-4 iso8859-5 iso8859-6 iso8859-7 iso8859-8 iso8859-9 iso8859-15
    gb18030 big5hkscs cp932 shift_jis_2004 euc_jis_2004 cp949 euc_kr
"""
_DETECTED = _DETECTED_TEXT.split()
"""What undeclared bytes may be in: the standard's encodings but those that are rare and resemble others."""
_OF_OTHER_SCRIPTS = re.compile("cp125[1356]|cp8|koi8|cp9|mac|iso8859-[5-8]|gb|big5|shift|euc")
_LATIN = [name for name in _DETECTED if not _OF_OTHER_SCRIPTS.match(name)]
_SUPERSETS = {
    "iso8859-1": "cp1252", "iso8859-9": "cp1254", "euc_kr": "cp949", "shift_jis_2004": "cp932",
    "euc_jis_2004": "euc_jp",
}  # fmt: skip
_MULTI_BYTE = frozenset(
    {"gbk", "gb18030", "big5hkscs", "euc_jp", "iso2022_jp", "cp932", "cp949", "utf-16-le", "utf-16-be"}
)
_ISO_2022_JP = re.compile(rb"\x1b(?:\$[@B]|\([BJI])")
_HZ = re.compile(rb"~\{[!-~]{2}")
_MARKUP = re.compile(rb"<!--.*?(?:-->|\Z)|<(script|style)\b.*?(?:</\1\b|\Z)|<[^<>]*>?|&[#\w]{1,30};", re.I | re.S)
_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_LONE = re.compile(rb"(?<![\x80-\xff])[\x80-\xff](?![\x80-\xff])")
# Characters that do not belong in text: C0 controls except tab, newline and carriage return, and surrogates.
_UNWANTED = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_ASCII, _LETTERS = bytes(range(128)), bytes([*range(65, 91), *range(97, 123)])
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\x0b\x0c\x1b"))
_MAX_CONTROLS_SHARE = 0.02
_MAX_DAMAGE_SHARE = 0.05
_MAX_DAMAGE_SHARE_UTF8 = 0.3
_SEARCHED_BYTES = 2_000_000
_SAMPLE_BYTES = 16_384
_CERTAIN_LETTERS = 6
_MIN_DETECTED_BYTES = 4
_MANY_PAIRS = 20
_MAX_STRAY_SHARE = 0.01
_MAX_STRANGE_SHARE = 0.2
_FOREIGN_SHARE = 0.3


class Undecodable(ValueError):
    """The bytes are no text in any encoding that was tried; the message says which."""


def decode(body: bytes, content_type: str) -> str:
    """Return the body as text without NULs, controls and surrogates.

    Raises:
        Undecodable: it is binary, or in no encoding that is declared or detected.
    """
    return clean_text(_decoded(body, content_type).lstrip("\ufeff"))


def clean_text(text: str) -> str:
    """Return the text with uniform line ends and without characters that stores or parsers reject."""
    return _UNWANTED.sub("", text.replace("\r\n", "\n").replace("\r", "\n").replace("\x0c", "\n"))


def is_binary(body: bytes) -> bool:
    """Return whether there are too many control characters for a text with a few stray bytes, in UTF-16 or not."""
    if body.startswith(UTF16_BOMS) or _utf16_without_bom(body):
        return False
    sample = body[:65536]
    controls = len(sample) - len(sample.translate(None, _CONTROLS))
    return controls > max(8, _MAX_CONTROLS_SHARE * len(sample))


def _decoded(body: bytes, content_type: str) -> str:
    for bom, name in _BOMS:
        if body.startswith(bom):
            return body[len(bom) :].decode(name, "replace")
    if utf16 := _utf16_without_bom(body):
        return body.decode(utf16, "replace")
    if is_binary(body):
        raise Undecodable("the body is binary: it has control characters that no text has")
    if body.isascii() and not _ISO_2022_JP.search(body) and not _HZ.search(body):
        return body.decode("ascii")
    utf8 = None if body.isascii() else _strict_utf8(body)
    if utf8 is not None and len(utf8.encode("ascii", "ignore")) <= len(utf8) - _CERTAIN_LETTERS:
        return utf8  # valid UTF-8 of several letters is practically never anything else, whatever is declared
    return _read_declared(body, content_type, utf8)


def _read_declared(body: bytes, content_type: str, utf8: str | None) -> str:
    encodings = {each.name: each.codec_info.name for each in declared_encodings(body, content_type)}
    if REPLACEMENT in encodings:
        raise Undecodable("it is declared to be in an encoding that browsers refuse (ISO-2022-KR, ISO-2022-CN, HZ)")
    if utf8 is not None and not _MULTI_BYTE.intersection(encodings.values()):
        return utf8
    if body.isascii() and _ISO_2022_JP.search(body):
        return _decoding(body, "iso2022_jp")[0]  # its escapes are in no text of another encoding
    fitting = {name: text for name in encodings.values() if (text := _fitting(body, name)) is not None}
    name = _obeyed(body, fitting) if fitting else None
    text = fitting[name] if name else _undeclared(body) or next(iter(fitting.values()), None)
    if text is None:
        tried = ", ".join(dict.fromkeys([*encodings, "utf-8"]))
        raise Undecodable(f"the bytes are no text in {tried}, nor in one of {len(_DETECTED)} others by the detector")
    return text


def _obeyed(body: bytes, declared: Iterable[str]) -> str | None:
    """Return which of the encodings that are declared and fit is obeyed; None to ask the detector for any.

    Of two, it is the first one unless the detector is for the other. Windows-1252 fits nearly any bytes, and is a
    default of servers and editors that nobody chose: where letters beyond ASCII prevail, as in no language of Western
    Europe, it is not believed.
    """
    first, *others = declared
    if _count_high(body) < _MIN_DETECTED_BYTES:
        return first
    if others:
        found = _detected(body)
        return found if found in others else first
    return None if first == "cp1252" and _is_mostly_foreign(body) else first


def _undeclared(body: bytes) -> str | None:
    utf8 = _fitting(body, "utf-8")
    if utf8 is not None:
        return utf8
    name = _detected(body)
    text = _fitting(body, name) if name else None
    if name and text is not None and not _is_gibberish(_sample(body).decode(name, "replace")):
        return text
    return (
        body.decode("cp1252", "replace")
        if _count_high(body) <= _MAX_STRAY_SHARE * len(body) + _MIN_DETECTED_BYTES
        else None
    )


def _is_gibberish(text: str) -> bool:
    """Return whether a guess gives what no language writes: signs among letters, capitals after small letters."""
    pairs = [pair for pair in pairwise(text) if pair[1] > "\x7f" and not pair[0].isspace()]
    strange = sum(1 for before, letter in pairs if _is_strange(before, letter))
    return len(pairs) > _MANY_PAIRS and strange > _MAX_STRANGE_SHARE * len(pairs)


def _is_strange(before: str, letter: str) -> bool:
    return (before.islower() and letter.isupper()) or unicodedata.category(letter) in (
        "So",
        "Sm",
        "Sk",
        "Cc",
        "Cn",
        "Co",
    )


def _detected(body: bytes) -> str | None:
    """Return the encoding that the detector finds in a sample; None if it finds none."""
    import chardet  # loading its models takes a quarter of a second

    sample = _sample(body)
    high = _count_high(sample)
    if high < _MIN_DETECTED_BYTES:
        return "cp1252"
    # In scripts other than Latin, letters beyond ASCII stand side by side.
    is_latin = len(_LONE.findall(sample)) * 2 > high
    names = _LATIN if is_latin else _DETECTED
    # It names an encoding even where it has found none: here UTF-8, which is tried before any other.
    name = chardet.detect(sample, include_encodings=names, no_match_encoding="utf-8", compat_names=False)["encoding"]
    return None if name in (None, "utf-8") else _SUPERSETS.get(name, name)


def _sample(body: bytes) -> bytes:
    """Return the text of a page around the first letters beyond ASCII, without markup."""
    text = _MARKUP.sub(b" ", body[:_SEARCHED_BYTES])
    first = _NOT_ASCII.search(text)
    if first is None:  # they stand in tags and scripts, or far behind
        text, first = body, _NOT_ASCII.search(body)
    start = max(first.start() - 200, 0) if first else 0
    return b" ".join(text[start : start + 4 * _SAMPLE_BYTES].split())[:_SAMPLE_BYTES]


def _is_mostly_foreign(body: bytes) -> bool:
    sample = _sample(body)
    high = _count_high(sample)
    letters = len(sample) - len(sample.translate(None, _LETTERS))
    return high > _FOREIGN_SHARE * (high + letters)


def _fitting(body: bytes, name: str) -> str | None:
    """Return the body in an encoding; None if it is damaged more than text is that was cut or pasted carelessly."""
    text, damage = _decoding(body, name)
    share = _MAX_DAMAGE_SHARE_UTF8 if name == "utf-8" else _MAX_DAMAGE_SHARE
    return text if damage <= share * (_count_high(body) or len(body)) else None


def _decoding(body: bytes, name: str) -> tuple[str, int]:
    """Return what the best decoder makes of the body, with the number of places that it could not read."""
    texts = (body.decode(decoder, "replace") for decoder in _WIDER.get(name, (name,)))
    return min(((text, text.count("\ufffd")) for text in texts), key=lambda decoding: decoding[1])


def _count_high(body: bytes) -> int:
    return len(body.translate(None, _ASCII))


def _strict_utf8(body: bytes) -> str | None:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _utf16_without_bom(body: bytes) -> str | None:
    """Return the kind of UTF-16 if, as in text of mostly Latin letters, every second byte is NUL; else None."""
    sample = body[:1000]
    if len(sample) < 8 or sample.count(0) * 5 < len(sample) * 2:
        return None
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if min(even, odd) * 10 > max(even, odd):
        return None
    return "utf-16-be" if even > odd else "utf-16-le"
