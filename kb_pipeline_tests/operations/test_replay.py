"""Stored bytes become the stored chunks once more, and what does not is said with its reason."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kb_pipeline.chunk.refresh import refresh_chunks
from kb_pipeline.chunk.rules import ChunkingRules
from kb_pipeline.clean.refresh import refresh_documents
from kb_pipeline.clean.rules import CleaningRules, library_versions
from kb_pipeline.embed.tokenizer import open_tokenizer
from kb_pipeline.errors import UnknownDocument, UsageError
from kb_pipeline.fetch.fetch_state import pages_schema
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.model import KbKey, document_id
from kb_pipeline.operations.replay import Replay, recorded_rules, replay_document
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.manifest import Manifest, TablePin
from kb_pipeline.store.paths import KbPaths
from kb_pipeline.store.stage_tables import CHUNKS, DOCUMENTS, PAGES
from kb_pipeline_tests.index.orchard import FETCHED_AT
from kb_pipeline_tests.store.manifests import manifest_of

pytestmark = pytest.mark.xdist_group("replay")  # one worker builds what the module's tests share

KEY = "http://x.example/pears"
TWIN = "http://x.example/twin-of-pears"
SENTENCES = " ".join(f"Pear number {n} ripens {n} days after it is picked." for n in range(40))
PAGE = (
    f"<html lang=en><head><title>Pears</title></head><body><main><h1>Pears</h1><p>{SENTENCES}</p></main></body></html>"
)


class Kept:
    """Pages whose bytes are written by hand, cleaned and chunked by the stages themselves."""

    def __init__(self, data_dir: Path) -> None:
        self.store = KbStore(KbPaths(data_dir, KbKey("acme", "fruit")))
        self.pages = self.store.tables.open_or_create(PAGES, pages_schema())

    def put(self, segment: str, bodies: dict[str, str], sha256: str | None = None) -> None:
        rows: list[dict[str, Any]] = [
            {
                "key": key,
                "url": key,
                "content_type": "text/html",
                "sha256": sha256 or hashlib.sha256(body.encode()).hexdigest(),
                "fetched_at": FETCHED_AT,
                "body": body.encode(),
            }
            for key, body in bodies.items()
        ]
        self.store.paths.raw.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), self.store.paths.raw / segment)
        named = {"source": "site", "outcome": "fetched", "segment": segment}
        pages = [
            row | named | {"page_id": document_id("site", row["key"]), "position": position}
            for position, row in enumerate(rows)
        ]
        self.pages.upsert(pa.Table.from_pylist(pages, schema=pages_schema()))

    def refresh(self) -> None:
        refresh_documents(self.store, CleaningRules(), "run", lambda done, total: None)
        refresh_chunks(self.store, ChunkingRules(max_tokens=64), open_tokenizer, lambda done, total: None)

    def manifest(self) -> Manifest:
        names = {"pages": PAGES, "documents": DOCUMENTS, "chunks": CHUNKS}
        pins = {role: TablePin(name, self.store.tables.open(name).version) for role, name in names.items()}
        rules = {"clean": CleaningRules().as_json(), "chunk": ChunkingRules(max_tokens=64).as_json()}
        return manifest_of(
            self.store.key, 1, tables=pins | {"index": TablePin("none", 1)}, rules=rules, libraries=library_versions()
        )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """Made once, as it starts worker processes; tests must leave what is stored as it is."""
    kept = Kept(tmp_path_factory.mktemp("replay"))
    kept.put("first.parquet", {"http://x.example/other": "<p>Something else altogether.", KEY: PAGE, TWIN: PAGE})
    kept.refresh()
    return kept


def replay(kept: Kept, key: str = KEY, **changed: Any) -> Replay:
    return replay_document(VersionReader(kept.store, replace(kept.manifest(), **changed)), key)


def test_what_was_made_by_the_recorded_rules_matches(built: Kept) -> None:
    result = replay(built)
    assert (result.bytes_match, result.document_matches, result.matches) == (True, True, True)
    assert result.chunks.stored == result.chunks.derived == result.chunks.matching > 5
    assert result.differs == ()
    assert result.raw_sha256 == hashlib.sha256(PAGE.encode()).hexdigest()


def test_the_duplicate_of_another_has_no_chunks_and_its_document_is_compared(built: Kept) -> None:
    result = replay(built, TWIN)
    assert (result.matches, result.document_matches) == (True, True)
    assert result.as_json()["chunks"] == {"stored": 0, "derived": 0, "matching": 0}
    assert result.duplicate_of == document_id("site", KEY)


def test_other_rules_than_those_of_the_version_do_not_match_and_the_code_versions_are_named(built: Kept) -> None:
    chunk = ChunkingRules(max_tokens=256).as_json() | {"version": "0"}
    libraries = library_versions() | {"lxml": "0.1", "no-such-library": "2"}
    rules = {"clean": CleaningRules().as_json(), "chunk": chunk}
    result = replay(built, rules=rules, libraries=libraries)
    assert (result.document_matches, result.matches, result.chunks.matching) == (True, False, 0)
    told = "\n".join(result.differs)
    assert "stored chunks did not come out again" in told
    assert f"code version chunk was 0 and is {ChunkingRules().as_json()['version']} now" in told
    assert f"library lxml was 0.1 and is {library_versions()['lxml']} now" in told
    assert "library no-such-library was 2 and is not installed now" in told


def test_rules_that_now_refuse_the_document_are_told(built: Kept) -> None:
    clean = CleaningRules().as_json() | {"min_words": 100_000}
    result = replay(built, rules={"clean": clean, "chunk": ChunkingRules().as_json()})
    assert (result.document_matches, result.chunks.derived) == (False, 0)
    assert result.differs[0].startswith("the bytes give no document any more: ")


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({}, "published before versions recorded their rules"),
        ({"clean": {"version": "1"}}, "published before versions recorded their rules"),
        ({"clean": {"version": "9", "from_the_future": 1}, "chunk": {}}, "does not know: .*from_the_future"),
    ],
    ids=["none", "half", "unknown"],
)
def test_a_version_without_rules_that_can_be_read_is_a_usage_error(rules: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        recorded_rules(manifest_of(KbKey("acme", "fruit"), 1, rules=rules))
    with pytest.raises(UsageError, match="kb build acme/fruit"):
        recorded_rules(manifest_of(KbKey("acme", "fruit"), 1, rules=None))


def test_a_document_that_is_not_there_is_a_usage_error(built: Kept) -> None:
    with pytest.raises(UnknownDocument):
        replay(built, "http://x.example/nowhere")


@pytest.fixture
def own(tmp_path: Path) -> Kept:
    """One that a test may spoil."""
    kept = Kept(tmp_path)
    kept.put("first.parquet", {KEY: PAGE})
    kept.refresh()
    return kept


def test_bytes_that_were_tampered_with_are_found(own: Kept) -> None:
    sha256 = hashlib.sha256(PAGE.encode()).hexdigest()
    own.put("first.parquet", {KEY: PAGE.replace("number 7 ripens", "number 7 rots")}, sha256)
    result = replay(own)
    assert (result.bytes_match, result.document_matches, result.matches) == (False, False, False)
    assert 0 < result.chunks.matching < result.chunks.stored


def test_a_document_kept_when_newer_bytes_failed_is_made_of_its_own_bytes(own: Kept) -> None:
    own.put("second.parquet", {"http://x.example/new": PAGE, KEY: "newer bytes, which could not be cleaned"})
    result = replay(own)
    assert (result.bytes_match, result.matches) == (True, True)


def test_a_chunk_that_was_tampered_with_is_found(own: Kept) -> None:
    chunks = own.store.tables.open(CHUNKS)
    first = chunks.head(chunks.schema.names, 1).to_pylist()[0]
    chunks.upsert(pa.Table.from_pylist([first | {"text": "otherwise"}], schema=chunks.schema))
    result = replay(own)
    assert result.document_matches
    assert result.chunks.matching == result.chunks.stored - 1
    assert result.differs[0] == f"1 of {result.chunks.stored} stored chunks did not come out again"
