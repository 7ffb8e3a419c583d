"""What a page, its response and its robots.txt say of indexing, following and use by AI; the evidence is kept.

`noindex` and `nofollow` are obeyed. `noarchive`, `noai` and content signals are kept with the page for whoever has to
decide about them. Directives: Google's robots meta tag and X-Robots-Tag specification; content signals:
contentsignals.org; `Content-Usage`: the IETF's AIPREF drafts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

_CRAWLER = "kb_pipeline"
"""The name under which a page may address this crawler alone."""
_WITH_VALUES = frozenset({"max-snippet", "max-image-preview", "max-video-preview"})
_AFTER = re.compile(r"unavailable_after\s*:\s*((?:[a-z]{3,9},\s*)?[^,]+)", re.IGNORECASE)
_SIGNAL_HEADERS = ("content-signal", "content-usage")
_LONGEST = 500

Metas = Sequence[tuple[str, str]]


def of_response(headers: Mapping[str, str], signals: Sequence[str], now: datetime) -> str | None:
    """The evidence in a response's headers and in the content signals of its robots.txt; None when they say nothing.

    Args:
        headers: by name in lower case; the lines of X-Robots-Tag are separated by line breaks.
        signals: the lines of robots.txt about use of content, for this crawler.
        now: decides whether an `unavailable_after` is over.
    """
    said: dict[str, list[str]] = {}
    if tag := headers.get("x-robots-tag", ""):
        said["x-robots-tag"] = [line[:_LONGEST] for line in tag.split("\n")]
    for name in _SIGNAL_HEADERS:
        if value := headers.get(name, ""):
            said[name] = [value[:_LONGEST]]
    if signals:
        said["robots.txt"] = [line[:_LONGEST] for line in signals]
    directives = list(dict.fromkeys(_of_lines(said.get("x-robots-tag", ()), now)))
    return _evidence(directives, said)


def with_page(evidence: str | None, metas: Metas, now: datetime) -> str | None:
    """The evidence of a response together with what the page's own meta elements say."""
    lines = [content[:_LONGEST] for name, content in metas if name in ("robots", _CRAWLER)]
    if not lines:
        return evidence
    earlier: dict[str, Any] = json.loads(evidence) if evidence else {}
    directives = [*earlier.pop("directives", ()), *_of_lines(lines, now)]
    return _evidence(list(dict.fromkeys(directives)), {**earlier, "meta": lines})


def renewed(earlier: str | None, said: str | None, now: datetime) -> str | None:
    """The evidence of a page whose bytes, and so whose own words, are those of before; its response may say another."""
    if earlier is None:
        return said
    return with_page(said, [("robots", line) for line in json.loads(earlier).get("meta", ())], now)


def forbids(evidence: str | None, what: str) -> bool:
    """Whether the evidence says `noindex`, `nofollow`, ..., or `none`, which means both of these."""
    if evidence is None:
        return False
    directives = json.loads(evidence).get("directives", ())
    return what in directives or ("none" in directives and what in ("noindex", "nofollow"))


def says_nofollow(metas: Metas) -> bool:
    """Whether the page itself asks not to follow its links."""
    said = set(_of_lines((content for name, content in metas if name in ("robots", _CRAWLER)), datetime.now(UTC)))
    return bool(said & {"nofollow", "none"})


def _evidence(directives: list[str], said: Mapping[str, list[str]]) -> str | None:
    if not (directives or said):
        return None
    return json.dumps({**({"directives": directives} if directives else {}), **said}, ensure_ascii=False)


def _of_lines(lines: Iterable[str], now: datetime) -> Iterator[str]:
    """The directives for this crawler. An agent named in a line is addressed by the rest of it."""
    for line in lines:
        if any(_is_past(match[1], now) for match in _AFTER.finditer(line)):
            yield "noindex"
        agent = ""
        for part in _AFTER.sub("", line).lower().split(","):
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
