"""Reads what a page, its response and its robots.txt say about indexing, following links and use by AI.

The crawl obeys `noindex` and `nofollow`. It keeps `noarchive`, `noai` and content signals with the page, as evidence
for those who decide about its use: a JSON object of `directives` and, by origin, the lines that they come from.
Directives: Google's robots meta tag and X-Robots-Tag specification; content signals: contentsignals.org;
`Content-Usage`: the IETF's AIPREF drafts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

_CRAWLER = "kb_pipeline"
"""The agent name under which a page may address only this crawler."""
_WITH_VALUES = frozenset({"max-snippet", "max-image-preview", "max-video-preview"})
_UNAVAILABLE_AFTER = re.compile(r"unavailable_after\s*:\s*((?:[a-z]{3,9},\s*)?[^,]+)", re.IGNORECASE)
_SIGNAL_HEADERS = ("content-signal", "content-usage")
_MAX_CHARS = 500

MetaTags = Sequence[tuple[str, str]]


def from_response(headers: Mapping[str, str], signals: Sequence[str], now: datetime) -> str | None:
    """Return the evidence in a response's headers and in its robots.txt's content signals; None when there is none.

    Args:
        headers: by name in lower case; the lines of X-Robots-Tag are separated by line breaks.
        signals: the content signal lines of robots.txt for this crawler.
        now: aware time; an `unavailable_after` before it means noindex.
    """
    lines: dict[str, list[str]] = {}
    if tag := headers.get("x-robots-tag", ""):
        lines["x-robots-tag"] = [line[:_MAX_CHARS] for line in tag.split("\n")]
    for name in _SIGNAL_HEADERS:
        if value := headers.get(name, ""):
            lines[name] = [value[:_MAX_CHARS]]
    if signals:
        lines["robots.txt"] = [line[:_MAX_CHARS] for line in signals]
    directives = list(dict.fromkeys(_directives_in(lines.get("x-robots-tag", ()), now)))
    return _evidence(directives, lines)


def add_page_directives(evidence: str | None, meta_tags: MetaTags, now: datetime) -> str | None:
    """Return the evidence of a response together with the directives in the page's meta elements."""
    texts = [content[:_MAX_CHARS] for name, content in meta_tags if name in ("robots", _CRAWLER)]
    if not texts:
        return evidence
    earlier: dict[str, Any] = json.loads(evidence) if evidence else {}
    directives = [*earlier.pop("directives", ()), *_directives_in(texts, now)]
    return _evidence(list(dict.fromkeys(directives)), {**earlier, "meta": texts})


def keep_page_directives(earlier: str | None, evidence: str | None, now: datetime) -> str | None:
    """Return the evidence of an unchanged page: that of its new response, with its earlier meta elements."""
    if earlier is None:
        return evidence
    return add_page_directives(evidence, [("robots", line) for line in json.loads(earlier).get("meta", ())], now)


def forbids(evidence: str | None, directive: str) -> bool:
    """Return whether the evidence has a directive (`noindex`, `nofollow`, ...) or `none`, which means both of these."""
    if evidence is None:
        return False
    directives = json.loads(evidence).get("directives", ())
    return directive in directives or ("none" in directives and directive in ("noindex", "nofollow"))


def has_nofollow(meta_tags: MetaTags) -> bool:
    """Return whether the page's meta elements ask not to follow its links."""
    texts = [content for name, content in meta_tags if name in ("robots", _CRAWLER)]
    directives = set(_directives_in(texts, datetime.now(UTC)))
    return bool(directives & {"nofollow", "none"})


def _evidence(directives: list[str], lines: Mapping[str, list[str]]) -> str | None:
    if not (directives or lines):
        return None
    return json.dumps({**({"directives": directives} if directives else {}), **lines}, ensure_ascii=False)


def _directives_in(texts: Iterable[str], now: datetime) -> Iterator[str]:
    """Yield the directives for this crawler; an agent named in a line is addressed by the rest of the line."""
    for line in texts:
        if any(_is_past(match[1], now) for match in _UNAVAILABLE_AFTER.finditer(line)):
            yield "noindex"
        agent = ""
        for part in _UNAVAILABLE_AFTER.sub("", line).lower().split(","):
            name, colon, value = part.partition(":")
            if colon and name.strip() not in _WITH_VALUES:
                agent, name = name.strip(), value
            if agent in ("", _CRAWLER):
                yield from re.split(r"[\s;]+", name.strip()) if name.strip() else ()


def _is_past(written: str, now: datetime) -> bool:
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = read(written.strip())
        except ValueError:
            continue
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) < now
    return False
