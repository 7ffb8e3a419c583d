"""Makes a document's text and chunks again from its stored bytes by the recorded rules, and says whether they match."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from typing import Any

from kb_pipeline.chunk.refresh import chunk_rows
from kb_pipeline.chunk.rules import CHUNK_VERSION, ChunkingRules
from kb_pipeline.clean.blocks import cut
from kb_pipeline.clean.rules import CLEAN_VERSION, CleaningRules
from kb_pipeline.clean.site_template import read_cut
from kb_pipeline.clean.worker_pool import clean_documents
from kb_pipeline.embed.tokenizer import open_tokenizer
from kb_pipeline.errors import UsageError
from kb_pipeline.index.documents import StoredDocument, read_document, read_raw_document
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.model import Document, JsonObject, RawDocument, Record, Rejected
from kb_pipeline.store.manifest import Manifest
from kb_pipeline.store.table import sql_in

_COMPARED = ("title", "language", "markdown")
"""The fields that are hashed to identify a document."""
_CHUNK = ("chunk_id", "start", "end", "text")
Chunk = tuple[str, int, int, str]
_CODE = {"clean": CLEAN_VERSION, "chunk": CHUNK_VERSION}


@dataclass(frozen=True, slots=True)
class RecordedRules:
    """The rules that a version was made by."""

    clean: CleaningRules
    chunk: ChunkingRules


@dataclass(frozen=True, slots=True)
class ChunkComparison(Record):
    """How many chunks a version holds of a document, how many were derived again, and how many are equal."""

    stored: int
    derived: int
    matching: int


@dataclass(frozen=True, slots=True)
class Replay(Record):
    """The comparison of a document with what its bytes give by the recorded rules."""

    kb: str
    version: int
    key: str
    document_id: str
    duplicate_of: str | None
    left_out: str | None
    raw_sha256: str
    bytes_match: bool
    document_matches: bool
    chunks: ChunkComparison
    matches: bool
    differs: tuple[str, ...]
    """Sentences that say what does not match and what may be the reason; empty when everything matches."""


def recorded_rules(manifest: Manifest) -> RecordedRules:
    """Return the rules in a version's manifest; raises UsageError for a version that does not say them."""
    kb, number = manifest.kb, manifest.version
    if manifest.rules is None or not {"clean", "chunk"} <= manifest.rules.keys():
        raise UsageError(
            f"{kb}: version {number} was published before versions recorded their rules, so it cannot be replayed; "
            f"a version that is built from now on can: kb build {kb}"
        )
    try:
        clean, chunk = (_knobs(manifest.rules[stage]) for stage in ("clean", "chunk"))
        return RecordedRules(CleaningRules(**clean), ChunkingRules(**chunk))
    except TypeError as error:
        raise UsageError(f"{kb}: version {number} was made by rules that this release does not know: {error}") from None


def replay_document(version: VersionReader, key: str) -> Replay:
    """Clean and chunk a document's bytes anew and compare with what the version holds; writes nothing.

    Raises:
        UnknownDocument: the version has no such document.
        UsageError: the version does not say its rules.
        DamagedStore: the bytes cannot be read.
    """
    rules = recorded_rules(version.manifest)
    stored, raw = read_document(version, key), read_raw_document(version, key)
    derived = _as_cut(_clean(raw, rules.clean), stored)
    chunks = _stored_chunks(version, stored.document_id)
    # A copy or a view of another document has no chunks of its own: those of the other one stand for it.
    derived_chunks = set() if stored.duplicate_of or stored.left_out else _derived_chunks(stored, derived, rules.chunk)
    bytes_differ = list(_bytes_differ(stored, raw))
    document_differs = list(_document_differs(stored, derived))
    differs = [*bytes_differ, *document_differs, *_chunks_differ(chunks, derived_chunks)]
    return Replay(
        kb=str(version.key),
        version=version.number,
        key=key,
        document_id=stored.document_id,
        duplicate_of=stored.duplicate_of,
        left_out=stored.left_out,
        raw_sha256=stored.provenance.sha256,
        bytes_match=not bytes_differ,
        document_matches=not document_differs,
        chunks=ChunkComparison(len(chunks), len(derived_chunks), len(chunks & derived_chunks)),
        matches=not differs,
        differs=(*differs, *_reasons(version.manifest, stored, rules)) if differs else (),
    )


def _knobs(recorded: Mapping[str, object]) -> JsonObject:
    return {name: value for name, value in recorded.items() if name != "version"}


def _clean(raw: RawDocument, rules: CleaningRules) -> Document | Rejected:
    # In a worker process, as in a refresh: the bytes are not trusted.
    (result,) = clean_documents([raw], rules)
    return result


def _as_cut(derived: Document | Rejected, stored: StoredDocument) -> Document | Rejected:
    """Return the document without the blocks of the site's template, which no page can tell by itself."""
    if isinstance(derived, Rejected):
        return derived
    return replace(derived, markdown=cut(derived.markdown, *read_cut(stored.cut_blocks))[1])


def _stored_chunks(version: VersionReader, document_id: str) -> set[Chunk]:
    batches = version.table("chunks").stream(_CHUNK, sql_in("document_id", [document_id]))
    return {_chunk(row) for batch in batches for row in batch.to_pylist()}


def _derived_chunks(stored: StoredDocument, derived: Document | Rejected, rules: ChunkingRules) -> set[Chunk]:
    if isinstance(derived, Rejected):
        return set()
    document = {
        "document_id": stored.document_id,
        "source": stored.source,
        "key": stored.key,
        "title": derived.title,
        "language": derived.language,
        "markdown": derived.markdown,
        "document_hash": None,  # not compared, nor part of a chunk's id
    }
    rows = chunk_rows(document, rules, open_tokenizer(rules.tokenizer), rules.fingerprint())
    return {_chunk(row) for row in rows}


def _chunk(row: Mapping[str, Any]) -> Chunk:
    return row["chunk_id"], row["start"], row["end"], row["text"]


def _bytes_differ(stored: StoredDocument, raw: RawDocument) -> Iterator[str]:
    found = hashlib.sha256(raw.body).hexdigest()
    if found != stored.provenance.sha256:
        yield f"the stored bytes hash to {found}, not to {stored.provenance.sha256}"


def _document_differs(stored: StoredDocument, derived: Document | Rejected) -> Iterator[str]:
    if isinstance(derived, Rejected):
        yield f"the bytes give no document any more: {derived.reason}, {derived.message}"
        return
    for name in _COMPARED:
        was, now = getattr(stored, name), getattr(derived, name)
        if was != now:
            is_long = name == "markdown"
            change = f"{len(was)} characters and is {len(now)} others" if is_long else f"{was!r} and is {now!r}"
            yield f"the {name} was {change} now"


def _chunks_differ(stored: set[Chunk], derived: set[Chunk]) -> Iterator[str]:
    if lost := len(stored - derived):
        yield f"{lost} of {len(stored)} stored chunks did not come out again"
    if new := len(derived - stored):
        yield f"{new} of {len(derived)} chunks that came out are not stored"


def _reasons(manifest: Manifest, stored: StoredDocument, rules: RecordedRules) -> Iterator[str]:
    """Yield what has changed since the version was built."""
    changed = [*_code_changes(manifest), *_library_changes(manifest)]
    yield from changed
    if not changed and stored.rules != rules.clean.fingerprint():
        yield "the document was kept from an earlier version, by whose rules it was made"


def _code_changes(manifest: Manifest) -> Iterator[str]:
    for stage, now in _CODE.items():
        was = manifest.rules[stage].get("version") if manifest.rules else None
        if was != now:
            yield f"code version {stage} was {was} and is {now} now"


def _library_changes(manifest: Manifest) -> Iterator[str]:
    for name, was in manifest.libraries.items():
        try:
            now = installed_version(name)
        except PackageNotFoundError:
            yield f"library {name} was {was} and is not installed now"
            continue
        if was != now:
            yield f"library {name} was {was} and is {now} now"
