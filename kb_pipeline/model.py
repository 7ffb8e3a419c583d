"""The words every stage shares: keys, raw documents, documents, chunks and what became of each."""

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
    """The name, if it may be part of a KB's key; raises InvalidKey."""
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
        """Read `tenant/kb`; raises InvalidKey."""
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
class RawDocument:
    """The exact bytes that a source gave for one key, and how."""

    source: str
    key: str
    """Canonical URL, path or row id: what identifies the document within its source."""
    url: str
    """Where the bytes finally came from, after redirects."""
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
    """ISO 639-1 code, or `und` when the detectors disagree or the text is too short to tell."""
    markdown: str
    canonical_url: str | None
    """What the page says its URL is (rel=canonical), absolute; None when it says nothing."""
    published: str | None
    """ISO date the page gives for its publication."""
    modified: str | None
    raw_sha256: str
    links: int = 0
    translations: tuple[tuple[str, str], ...] = ()
    """Pairs of hreflang and address: the page in other languages, as it names them."""
    sketch: int = 0
    """64 bits, of which nearly equal texts share most."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A raw document that became no document, and why."""

    source: str
    key: str
    reason: str
    message: str
    raw_sha256: str
    failed: bool = False
    """True when it should have worked (time or memory limit, crash), so trying again may help."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A span of a document small enough to embed, that remembers its place."""

    ordinal: int
    start: int
    """Offset of the first character in the document's Markdown."""
    end: int
    """Offset after the last character."""
    headings: tuple[str, ...]
    """The path of headings above the span, outermost first."""
    text: str
    """Exactly `markdown[start:end]`."""
    tokens: int
    """Length of what is embedded, in the model's tokens, special tokens counted."""


@dataclass(frozen=True, slots=True)
class EmbeddingModel(Record):
    """What tells the vectors of a model, without opening it."""

    name: str
    fingerprint: str
    """Two models with the same may be mixed in one index."""
    dimension: int


@dataclass(frozen=True, slots=True)
class PagesUsed:
    """What was asked for in a day."""

    pages: int
    bytes: int


class ReportProgress(Protocol):
    """Called by a stage as it goes; must be cheap and must not raise."""

    def __call__(self, done: int, total: int | None) -> None:
        """Say that `done` of `total` units (None while unknown) are through."""


@dataclass(slots=True)
class StageReport:
    """What one stage did with its input; entered = passed + sum(rejected) + sum(failed)."""

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
        """The counts as the command line prints them."""
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
    """A 128-bit hex identity of the parts, unambiguous about where one ends (BLAKE2b, length-prefixed)."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        state.update(len(raw).to_bytes(8, "big"))
        state.update(raw)
    return state.hexdigest()


def document_id(source: str, key: str) -> str:
    """The stable id of the document that `source` names `key`."""
    return digest("document", source, key)
