"""Gives each URL one canonical spelling, by the WHATWG rules that browsers use.

`canonical_url` lowercases scheme and host, punycodes the host, drops default port, fragment, empty query, session ids
and known tracking parameters, resolves dot segments, decodes percent-encoded unreserved characters and uppercases
the other escapes. It does not sort query parameters: their order matters to some servers, and a site links its own
pages in one order anyway. It is idempotent.
"""

from __future__ import annotations

import re
from functools import lru_cache

import ada_url

MAX_URL_CHARS = 4096
_TRACKERS = frozenset(
    [
        "gclid",
        "gclsrc",
        "dclid",
        "gbraid",
        "wbraid",
        "fbclid",
        "msclkid",
        "yclid",
        "twclid",
        "ttclid",
        "igshid",
        "mc_cid",
        "mc_eid",
        "mkt_tok",
        "_hsenc",
        "_hsmi",
        "vero_id",
        "oly_anon_id",
        "oly_enc_id",
        "wickedid",
        "_openstat",
    ]
)
_SESSIONS = frozenset(["phpsessid", "jsessionid", "cfid", "cftoken", "zenid", "oscsid"])
"""Parameters in which one platform or another keeps the session of a visitor, whatever the value."""
_MAYBE_SESSIONS = frozenset(["sessionid", "session_id", "session-id", "session", "sessid", "sess", "sid"])
"""Parameters that hold a session if their value looks random; other values name a page (a talk, a story)."""
_SESSION_SEGMENT = re.compile(r";(?:jsessionid|phpsessid)=[^/?;]*", re.IGNORECASE)
_MAYBE_SESSION_SEGMENT = re.compile(r";(?:sessionid|session_id|session|sessid|sid)=([^/?;]*)", re.IGNORECASE)
_GUID = re.compile(r"\{?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\}?", re.IGNORECASE)
_HEX = re.compile(r"(?=.*\d)[0-9a-f]+", re.IGNORECASE)
_MIXED = re.compile(r"(?=.*\d)(?=.*[a-zA-Z])[0-9a-zA-Z]+")
_TURN = re.compile(r"(?<=\d)(?=[a-zA-Z])|(?<=[a-zA-Z])(?=\d)")
"""Between a digit and a letter: a word with a number has one or two, a random value many."""
_MANY_TURNS = 3
_SESSION_CHARS, _LONG_CHARS, _HEX_CHARS, _SHORT_HEX_CHARS = 10, 20, 16, 8
_ESCAPE = re.compile(r"%[0-9a-fA-F]{2}")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


@lru_cache(maxsize=65_536)
def canonical_url(url: str, base: str | None = None) -> str | None:
    """Return the canonical spelling of an absolute or relative URL; None unless it is valid and http(s).

    A URL with user name or password gives None too, since it would carry a secret into keys and logs.
    """
    parsed = _parse(url.strip(), base)
    if parsed is None or parsed.protocol not in ("http:", "https:"):
        return None
    if parsed.username or parsed.password or not parsed.hostname:
        return None
    path = normal_escapes(parsed.pathname)
    if ";" in path:
        path = _MAYBE_SESSION_SEGMENT.sub(_kept_segment, _SESSION_SEGMENT.sub("", path))
    query = _without_trackers(normal_escapes(parsed.search))
    spelled = f"{parsed.protocol}//{parsed.host}{path}{query}"
    return spelled if len(spelled) <= MAX_URL_CHARS else None


def absolute_url(url: str, base: str) -> str | None:
    """Return a URL as absolute, without fragment but with all parameters; None unless it is valid and http(s)."""
    parsed = _parse(url.strip(), base)
    if parsed is None or parsed.protocol not in ("http:", "https:"):
        return None
    return str(parsed.href).partition("#")[0]


def _parse(url: str, base: str | None) -> ada_url.URL | None:
    try:
        return ada_url.URL(url, base) if base else ada_url.URL(url)
    except (ValueError, UnicodeError):
        return None


def normal_escapes(text: str) -> str:
    """Decode escapes of unreserved characters, make the others upper case (RFC 3986, 6.2.2)."""
    return _ESCAPE.sub(_normal_escape, text) if "%" in text else text


def _normal_escape(match: re.Match[str]) -> str:
    char = chr(int(match[0][1:], 16))
    return char if char in _UNRESERVED else match[0].upper()


def _kept_segment(match: re.Match[str]) -> str:
    return "" if looks_random(match[1], _SESSION_CHARS) else match[0]


def _without_trackers(search: str) -> str:
    if len(search) < 2:
        return ""
    kept = [pair for pair in search[1:].split("&") if not _is_noise(pair)]
    query = "&".join(kept)
    return f"?{query}" if query else ""


def _is_noise(pair: str) -> bool:
    """Return whether a parameter tracks visitors or sessions rather than naming a page."""
    name, _, value = pair.partition("=")
    name = name.lower()
    if name.startswith(("utm_", "aspsessionid")) or name in _TRACKERS or name in _SESSIONS:
        return True
    return name in _MAYBE_SESSIONS and looks_random(value, _SESSION_CHARS)


def looks_random(value: str, least: int = 6) -> bool:
    """Return whether a value looks made by a machine: a GUID, hexadecimal digits, letters and digits in turns.

    Args:
        value: of a parameter, or a segment of a path.
        least: how many characters it must have.
    """
    if len(value) < least or not value.isascii():
        return False
    if _GUID.fullmatch(value):
        return True
    if _HEX.fullmatch(value) and len(value) >= _HEX_CHARS:
        return True
    if not _MIXED.fullmatch(value):
        return False
    if least < _SESSION_CHARS and len(value) >= _SHORT_HEX_CHARS and _HEX.fullmatch(value):
        return True
    return len(value) >= _LONG_CHARS or len(_TURN.findall(value)) >= _MANY_TURNS


@lru_cache(maxsize=4096)
def _origin_parts(origin: str) -> tuple[str, str]:
    parsed = ada_url.URL(origin)
    return str(parsed.hostname), str(parsed.host)


def origin_of(url: str) -> str:
    """Return scheme, host and port of a canonical URL: `https://example.com:8443`."""
    return url[: _path_start(url)]


def path_of(url: str) -> str:
    """Return path and query of a canonical URL."""
    return url[_path_start(url) :]


def folder_of(url: str) -> str:
    """Return the path of the folder that a canonical URL lies in: `/guide/` of `/guide/start?x=1`."""
    path = path_of(url).partition("?")[0]
    return path[: path.rfind("/") + 1] or "/"


def _path_start(url: str) -> int:
    start = url.find("/", url.index("//") + 2)
    return start if start >= 0 else len(url)


def hostname_of(url: str) -> str:
    """Return the host of a canonical URL, without its port."""
    return _origin_parts(origin_of(url))[0]


def netloc_of(url: str) -> str:
    """Return the host of a canonical URL, with its port unless that is the scheme's default."""
    return _origin_parts(origin_of(url))[1]
