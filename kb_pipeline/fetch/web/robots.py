"""Parses robots.txt by RFC 9309, with the lenient syntax that Google's reference parser accepts.

Protego, Scrapy's parser, decides 14 of Google's 145 reference cases differently, 12 of them too permissively, so this
is an implementation of its own. Allow rules match as they are written and percent-encoded; Disallow rules also match
with their escaped unreserved characters decoded (RFC 9309, 2.2.2), so in doubt a page is not fetched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from kb_pipeline.urls import normal_escapes

MAX_BYTES = 500 * 1024
_MAX_LINE = 2083 * 8
_AGENT_KEYS = {"user-agent", "useragent", "user agent"}
_DISALLOW_KEYS = {"disallow", "dissallow", "dissalow", "disalow", "diasllow", "disallaw"}
_SITEMAP_KEYS = {"sitemap", "site-map"}
_SIGNAL_KEYS = {"content-signal", "content-usage"}
_NON_ASCII = re.compile(rb"[\x80-\xff]")


@dataclass(frozen=True, slots=True)
class RobotsRule:
    """A rule of a robots.txt."""

    line: int
    """Counted from 1."""
    allows: bool
    pattern: str
    """As it is written, percent-encoded."""

    def __str__(self) -> str:
        return f"{self.line}: {'Allow' if self.allows else 'Disallow'}: {self.pattern}"


@dataclass(slots=True)
class _Group:
    allow: list[str] = field(default_factory=list)
    disallow: list[str] = field(default_factory=list)
    lines: dict[tuple[bool, str], int] = field(default_factory=dict)
    """The first line of each rule, by whether it allows and its pattern."""
    delay_s: float | None = None
    signals: list[str] = field(default_factory=list)
    found: bool = False


class RobotsPolicy:
    """The rules of one robots.txt for one user agent."""

    def __init__(self, body: bytes, user_agent: str) -> None:
        self.sitemaps: tuple[str, ...] = ()
        token = product_token(user_agent)
        own, everyone = _Group(), _Group()
        current: list[_Group] = []
        in_agents = False
        for number, key, value in _lines(body):
            if key in _AGENT_KEYS:
                current = current if in_agents else []
                in_agents = True
                if (group := _addressed(value, token, own, everyone)) is not None:
                    group.found = True
                    current = [*current, group]
            elif key in _SITEMAP_KEYS:
                self.sitemaps += (value,)
            else:
                in_agents &= not _apply(number, key, value, current)
        self._group = own if own.found else everyone

    @property
    def signals(self) -> tuple[str, ...]:
        """The lines of Content-Signal and Content-Usage."""
        return tuple(self._group.signals)

    @property
    def crawl_delay(self) -> float | None:
        """The least time between two requests that the host asks for, in seconds; None without a Crawl-delay."""
        return self._group.delay_s

    def allowed(self, url: str) -> bool:
        """Return whether the user agent may fetch `url`; the longest matching rule wins, Allow on a tie."""
        if not self._group.disallow:
            return True
        path = path_and_query(url)
        disallow = max((len(p) for p in self._group.disallow if _disallow_matches(p, path)), default=0)
        if not disallow:
            return True
        return max((_allow_length(p, path) for p in self._group.allow), default=0) >= disallow

    def deciding_rule(self, url: str) -> RobotsRule | None:
        """Return the rule by which `allowed` decides about `url`; None where none matches it."""
        path, group = path_and_query(url), self._group
        disallow = max((p for p in group.disallow if _disallow_matches(p, path)), key=len, default="")
        matching = ((length, p) for p in group.allow if (length := _allow_length(p, path)))
        length, allow = max(matching, default=(0, ""))
        allows = length >= len(disallow)
        pattern = allow if allows else disallow
        return RobotsRule(group.lines[allows, pattern], allows, pattern) if pattern else None


def is_allowed(body: bytes, user_agent: str, url: str) -> bool:
    """Return whether this robots.txt lets this user agent fetch this URL; `url` is taken as it would be sent."""
    return RobotsPolicy(body, user_agent).allowed(url)


def product_token(user_agent: str) -> str:
    """Return the product name of a user agent string: `kb` for `kb/1.0 (+https://example.com)`."""
    return re.split(r"/|\s+\(", user_agent.strip(), maxsplit=1)[0].strip().lower()


def _addressed(value: str, token: str, own: _Group, everyone: _Group) -> _Group | None:
    if value == "*" or re.match(r"\*\s", value):
        return everyone
    name = re.match(r"[A-Za-z_-]*", value)
    return own if name and name[0] and name[0].lower() == token else None


def _apply(number: int, key: str, value: str, groups: list[_Group]) -> bool:
    """Add a line to the current groups; return whether it is a rule, which ends their list of agents."""
    if key == "crawl-delay":
        for group in groups:
            group.delay_s = _delay(value, group.delay_s)
        return False
    if key in _SIGNAL_KEYS:
        for group in groups:
            group.signals.append(value)
        return False
    if key != "allow" and key not in _DISALLOW_KEYS:
        return False
    allows, pattern = key == "allow", _escaped(value)
    for group in groups:
        (group.allow if allows else group.disallow).append(pattern)
        group.lines.setdefault((allows, pattern), number)
    return True


def _delay(value: str, before: float | None) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        return before
    return max(seconds, before or 0.0) if 0 <= seconds < float("inf") else before


def _lines(body: bytes) -> Iterator[tuple[int, str, str]]:
    """Yield number, key and value of each line that has a key."""
    cut = body[:MAX_BYTES].removeprefix(b"\xef\xbb\xbf")
    for number, line in enumerate(re.split(rb"\r\n|\r|\n", cut), start=1):
        text = line[: _MAX_LINE - 1].replace(b"\0", b"").partition(b"#")[0].strip()
        key, colon, value = text.partition(b":")
        if not colon:
            # Google accepts a forgotten colon when exactly two words stand on the line.
            words = text.split()
            key, value = words if len(words) == 2 else (b"", b"")
        if key := key.strip().lower():
            yield number, key.decode("latin-1"), value.strip().decode("utf-8", "surrogateescape")


def _escaped(pattern: str) -> str:
    """Percent-encode what is not ASCII and make escapes upper case; decode nothing."""
    raw = pattern.encode("utf-8", "surrogateescape")
    spelled = _NON_ASCII.sub(lambda match: b"%%%02X" % match[0][0], raw).decode("ascii")
    return re.sub(r"%[0-9a-fA-F]{2}", lambda match: match[0].upper(), spelled)


def path_and_query(url: str) -> str:
    """Return what robots rules are matched against: path, parameters and query, as they are in the URL."""
    scheme_end = url.find("//")
    start = scheme_end + 2 if 0 <= scheme_end <= _first_of(url, "/?;", 0) + 1 else 0
    path_start = _first_of(url, "/?;", start)
    end = url.find("#")
    path = url[path_start : end if end >= 0 else len(url)] if end < 0 or path_start <= end else ""
    return path if path.startswith("/") else f"/{path}"


def _first_of(text: str, chars: str, start: int) -> int:
    found = [at for at in (text.find(char, start) for char in chars) if at >= 0]
    return min(found, default=len(text))


def _disallow_matches(pattern: str, path: str) -> bool:
    if not pattern:
        return False
    return _matches(pattern, path) or ("%" in pattern and _matches(normal_escapes(pattern), path))


def _allow_length(pattern: str, path: str) -> int:
    if _matches(pattern, path):
        return len(pattern)
    # A rule for /dir/index.html also opens /dir/, as in Google's parser.
    folder, _, page = pattern.rpartition("/")
    opened = f"{folder}/$"
    return len(opened) if page.startswith("index.htm") and _matches(opened, path) else 0


def _matches(pattern: str, path: str) -> bool:
    return bool(pattern) and _matcher(pattern).match(path) is not None


@lru_cache(maxsize=16_384)
def _matcher(pattern: str) -> re.Pattern[str]:
    anchored = pattern.endswith("$")
    pieces = re.split(r"\*+", pattern[:-1] if anchored else pattern)
    # Lazy stars inside atomic groups: the first match of a piece is as good as any later one, so matching stays linear
    # in the path. The last piece of an anchored rule has to reach the end and may need the last match.
    parts = [re.escape(pieces[0])]
    parts += [f"(?>.*?{re.escape(piece)})" for piece in pieces[1:-1]]
    if len(pieces) > 1:
        parts.append(f".*{re.escape(pieces[-1])}" if anchored else f"(?>.*?{re.escape(pieces[-1])})")
    return re.compile("".join(parts) + (r"\Z" if anchored else ""), re.DOTALL)
