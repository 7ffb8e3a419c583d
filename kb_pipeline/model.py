"""The types that all stages share: keys, raw documents, documents, chunks, and reports on them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from kb_pipeline.errors import InvalidKey

JsonObject = dict[str, Any]
"""What `json.dumps` takes as an object: what an `as_json` method returns, what a JSON column holds."""

_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def check_slug(name: str) -> str:
    """Return the name if it may be part of a KB's key; raise InvalidKey otherwise."""
    if not _SLUG.fullmatch(name):
        raise InvalidKey(name)
    return name


@dataclass(frozen=True, slots=True, order=True)
class KbKey:
    """The name of a KB: `tenant/kb`. Safe as a path, a partition key and a tag."""

    tenant: str
    kb: str

    def __post_init__(self) -> None:
        if not (_SLUG.fullmatch(self.tenant) and _SLUG.fullmatch(self.kb)):
            raise InvalidKey(f"{self.tenant}/{self.kb}")

    @classmethod
    def parse(cls, text: str) -> KbKey:
        """Parse `tenant/kb`; raise InvalidKey."""
        tenant, _, kb = text.partition("/")
        try:
            return cls(tenant, kb)
        except InvalidKey:
            raise InvalidKey(text) from None

    def __str__(self) -> str:
        return f"{self.tenant}/{self.kb}"


@dataclass(frozen=True, slots=True)
class Record:
    """Base of the rows that the Python API returns: frozen dataclasses whose fields are the members of their JSON."""

    def as_json(self) -> JsonObject:
        """Return the fields by name: times as ISO 8601, KB keys and paths as text, tuples as lists."""
        return {field.name: _to_json(getattr(self, field.name)) for field in fields(self)}


def _to_json(value: object) -> object:
    if isinstance(value, Record):
        return value.as_json()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (KbKey, Path)):
        return str(value)
    if isinstance(value, tuple):
        return [_to_json(item) for item in value]
    return {name: _to_json(item) for name, item in value.items()} if isinstance(value, Mapping) else value


@dataclass(frozen=True, slots=True)
class RequestOnce:
    """What tells a request from others whose client may send it again, to have it done once."""

    caller: str
    """Who sends it: another one's key is another key."""
    key: str
    """As the client chose it."""
    fingerprint: str
    """A digest of what is asked for."""


@dataclass(frozen=True, slots=True)
class RawDocument:
    """The exact bytes that a source gave for one key, and how."""

    source: str
    key: str
    """Canonical URL, path or row id: what identifies the document within its source."""
    url: str
    """The URL that the bytes came from, after redirects."""
    body: bytes
    sha256: str
    content_type: str
    """The Content-Type header as sent, possibly empty."""
    fetched_at: datetime


@dataclass(frozen=True, slots=True)
class Document:
    """The readable Markdown of a raw document."""

    source: str
    key: str
    title: str
    language: str
    """ISO 639-1 code, or `und` when the detectors disagree or the text is too short."""
    markdown: str
    canonical_url: str | None
    """The canonical URL that the page declares (rel=canonical), absolute; None when it declares none."""
    published: str | None
    """ISO date of publication by the page's metadata; None without one."""
    modified: str | None
    raw_sha256: str
    links: int = 0
    translations: tuple[tuple[str, str], ...] = ()
    """Pairs of hreflang and URL: the translations that the page declares."""
    sketch: int = 0
    """The simhash of the Markdown: 64 bits, of which nearly equal texts share most."""
    segments: bytes = b""
    """Hashes of its pieces of text and of where its links lead, to compare it with others."""
    template: int = 0
    """Signed 64-bit hash of title and text without the words of its own address."""
    signs: tuple[str, ...] = ()
    """What in it suggests that it is no document: an error, a log-in, a form, an empty list, a calendar."""
    metadata: Mapping[str, str | list[str]] = field(default_factory=dict)
    """What its page says for machines of what it is about: price, availability, rating, dates, place, author, path."""
    words: Mapping[str, int] = field(default_factory=dict)
    """Words of its page: `kept`, and those that cleaning removed, by reason."""
    edges: bytes = b""
    """Hashes of the blocks that it begins and ends with, to find those that the site repeats; empty for text files."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A raw document that gave no document, and why."""

    source: str
    key: str
    reason: str
    message: str
    raw_sha256: str
    failed: bool = False
    """Whether trying again may help (time or memory limit, crash)."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A span of a document small enough to embed, with its place in the document."""

    ordinal: int
    start: int
    """Offset of the first character in the document's Markdown."""
    end: int
    """Offset after the last character."""
    headings: tuple[str, ...]
    """The path of headings above the span, outermost first; then, if it starts inside a table, its column names."""
    text: str
    """Exactly `markdown[start:end]`."""
    tokens: int
    """The number of tokens that are embedded, including context line and special tokens."""


@dataclass(frozen=True, slots=True)
class EmbeddingModel(Record):
    """The identity of an embedding model, known without opening it."""

    name: str
    fingerprint: str
    """Vectors of models with the same fingerprint may be mixed in one index."""
    dimension: int


@dataclass(frozen=True, slots=True)
class PagesUsed:
    """The pages requested in one day."""

    pages: int
    bytes: int


class ReportProgress(Protocol):
    """Called by a stage while it works; must be cheap and must not raise."""

    def __call__(self, done: int, total: int | None) -> None:
        """Report that `done` of `total` items (None while unknown) are done."""


@dataclass(slots=True)
class StageReport:
    """The counts of one stage; entered = passed + sum(rejected) + sum(failed)."""

    stage: str
    entered: int = 0
    passed: int = 0
    unchanged: int = 0
    """How many of `passed` needed no work."""
    deleted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)
    """Stage-specific figures, JSON-able."""

    @property
    def reconciles(self) -> bool:
        """Whether everything that entered is accounted for."""
        return self.entered == self.passed + self.rejected.total() + self.failed.total()

    def as_json(self) -> dict[str, Any]:
        """Return the counts as the command line prints them."""
        return {
            "in": self.entered,
            "out": self.passed,
            "unchanged": self.unchanged,
            "rejected": self.rejected.total(),
            "failed": self.failed.total(),
            "deleted": self.deleted,
            "seconds": round(self.seconds, 3),
            "rejected_by_reason": dict(self.rejected.most_common()),
            "failed_by_reason": dict(self.failed.most_common()),
            **self.extra,
        }


def digest(*parts: str | bytes) -> str:
    """Return a 128-bit hash of the parts in hex: BLAKE2b over length-prefixed parts, so that their bounds matter."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        state.update(len(raw).to_bytes(8, "big"))
        state.update(raw)
    return state.hexdigest()


def document_id(source: str, key: str) -> str:
    """Return the stable id of the document with this key in this source."""
    return digest("document", source, key)
