"""Many small refreshes over real Lance tables and raw segments: what is freed, and that nothing needed ever is."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kb_pipeline.chunk.refresh import chunks_schema
from kb_pipeline.clean.refresh import documents_schema
from kb_pipeline.embed.refresh import vectors_table
from kb_pipeline.errors import DamagedStore
from kb_pipeline.fetch.fetch_state import pages_schema
from kb_pipeline.index.build import TEXT_COLUMNS, build_index, index_name, index_schema
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.index.search import Mode, search_version
from kb_pipeline.maintenance import compact_raw, garbage_collection
from kb_pipeline.model import KbKey, digest, document_id
from kb_pipeline.store.durable_files import folder_bytes
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.manifest import Manifest, TablePin
from kb_pipeline.store.paths import KbPaths
from kb_pipeline.store.raw_segments import read_bodies
from kb_pipeline.store.stage_tables import CHUNKS, DOCUMENTS, INDEX_PREFIX, PAGES, VECTORS_PREFIX
from kb_pipeline_tests.index.test_index import MODEL, vector_of
from kb_pipeline_tests.store.manifests import manifest_of

NOW = timedelta(0)
MODES: tuple[Mode, ...] = ("keyword", "vector", "hybrid")
QUERIES = ("amber", "birch cedar", "dune", "ember fjord grove", "heath")
WORDS = ("amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath", "inlet", "jetty", "knoll", "ledge")


class Meadow:
    """A KB of one chunk a document, written and published in bulk."""

    def __init__(self, data_dir: Path, kb: str = "meadow") -> None:
        self.store = KbStore(KbPaths(data_dir, KbKey("acme", kb)))
        self.manifests: list[Manifest] = []
        for name, schema in ((PAGES, pages_schema()), (DOCUMENTS, documents_schema()), (CHUNKS, chunks_schema())):
            self.store.tables.open_or_create(name, schema)
        self.cache = vectors_table(self.store, MODEL)

    def put(self, texts: dict[str, str]) -> None:
        """Fetch, clean, chunk and embed documents, one raw segment for 64 of them."""
        keys = list(texts)
        places: dict[str, tuple[str, int]] = {}
        for start in range(0, len(keys), 64):
            places |= self.write_segment({key: texts[key].encode() for key in keys[start : start + 64]})
        rows = [self._rows(key, text, *places[key]) for key, text in texts.items()]
        for name in (PAGES, DOCUMENTS):
            table = self.store.tables.open(name)
            table.upsert(pa.Table.from_pylist([row[name] for row in rows], schema=table.schema))
        chunks = self.store.tables.open(CHUNKS)
        ids = [row[CHUNKS]["document_id"] for row in rows]
        new = pa.Table.from_pylist([row[CHUNKS] for row in rows], schema=chunks.schema)
        chunks.replace_group(new, "document_id", ids)
        vectors = np.stack([vector_of(text) for text in texts.values()]).astype(np.float32)
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), MODEL.dimension)
        hashes = pa.array([digest(text) for text in texts.values()])
        self.cache.append([pa.RecordBatch.from_arrays([hashes, column], schema=self.cache.schema)])
        self.cache.optimize()

    def write_segment(self, bodies: dict[str, bytes]) -> dict[str, tuple[str, int]]:
        """Write raw bytes; returns where those of each key lie."""
        self.store.paths.raw.mkdir(parents=True, exist_ok=True)
        name = f"site-{time.time_ns():x}.parquet"
        rows = [
            {"key": key, "url": key, "content_type": "text/html", "body": body, "fetched_at": datetime.now(UTC),
             "sha256": hashlib.sha256(body).hexdigest()}
            for key, body in bodies.items()
        ]  # fmt: skip
        pq.write_table(pa.Table.from_pylist(rows), self.store.paths.raw / name, compression="zstd")
        return {key: (name, position) for position, key in enumerate(bodies)}

    def _rows(self, key: str, text: str, segment: str, position: int) -> dict[str, dict[str, Any]]:
        doc_id, sha256, hashed = document_id("site", key), hashlib.sha256(text.encode()).hexdigest(), digest("d", text)
        base = {"source": "site", "key": key, "document_hash": hashed, "language": "en", "title": key}
        place = {"segment": segment, "position": position, "sha256": sha256}
        chunk = {"chunk_id": digest(doc_id, text), "headings": [], "ordinal": 0, "start": 0, "end": len(text)}
        return {
            PAGES: base | place | {"page_id": doc_id, "outcome": "fetched"},
            DOCUMENTS: base | {"document_id": doc_id, "outcome": "document", "markdown": text, "raw_sha256": sha256},
            CHUNKS: base | chunk | {"document_id": doc_id, "text": text, "words": text, "text_hash": digest(text)},
        }

    def publish(self) -> Manifest:
        """Build the index and pin the tables, as a run that publishes does."""
        live = self.manifests[-1] if self.manifests else None
        garbage_collection.tidy_tables(self.store, live)
        index = self.store.tables.open_or_create(index_name(MODEL.fingerprint), index_schema(MODEL.dimension))
        build_index(self.store, index, self.cache, lambda done, total: None)
        assert index.indexes.unindexed_rows() == 0
        number = len(self.manifests) + 1
        heads = {"pages": PAGES, "documents": DOCUMENTS, "chunks": CHUNKS, "index": index_name(MODEL.fingerprint)}
        tables: dict[str, TablePin] = {}
        for role, name in heads.items():
            table = self.store.tables.open(name)
            tables[role] = TablePin(name, table.version)
            table.tags.put(f"v{number}", table.version)
        self.manifests.append(manifest_of(self.store.key, number, tables=tables, model=MODEL))
        return self.manifests[-1]

    def tidy(self, keep: int = 5) -> None:
        kept = self.manifests[-keep:]
        garbage_collection.clean_tables(self.store, {manifest.version for manifest in kept}, NOW)
        compact_raw.collect_raw_segments(self.store, kept, NOW, lambda: None)
        compact_raw.compact_raw_segments(self.store, kept)

    def answers(self, manifest: Manifest) -> list[Any]:
        """Ids and scores of everything that the queries find."""
        version = VersionReader(self.store, manifest)
        hits = [search_version(version, query, vector_of, k=20, mode=mode) for query in QUERIES for mode in MODES]
        return [[(hit.chunk_id, hit.score) for hit in each] for each in hits]

    def raw_bytes(self, manifest: Manifest) -> dict[str, bytes]:
        pin = manifest.tables["pages"]
        rows = self.store.tables.open(pin.name, pin.version).read_columns(["segment", "position", "key"])
        wanted: dict[str, list[int]] = {}
        for segment, position, _ in rows.iter_rows():
            wanted.setdefault(segment, []).append(position)
        return {row.key: row.body for row in read_bodies(self.store.paths.raw, wanted)}

    def part_bytes(self) -> int:
        paths = self.store.paths
        return folder_bytes(paths.raw) + folder_bytes(paths.lance) + folder_bytes(paths.vectors)


def text_of(key: str, revision: int) -> str:
    draw = random.Random(f"{key} {revision}")
    return f"{key} " + " ".join(f"{draw.choice(WORDS)} word{draw.randrange(2000)}" for _ in range(200))


def texts_of(keys: Sequence[int], revision: int) -> dict[str, str]:
    return {f"/{key}": text_of(f"/{key}", revision) for key in keys}


@pytest.fixture
def meadow(tmp_path: Path) -> Meadow:
    kb = Meadow(tmp_path)
    kb.put(texts_of(range(130), 0))
    kb.publish()
    return kb


def change(kb: Meadow, revision: int, keys: Sequence[int]) -> Manifest:
    kb.put(texts_of(keys, revision))
    return kb.publish()


@pytest.mark.upgrade("lance")
def test_after_many_small_refreshes_the_folder_is_not_much_larger_than_a_fresh_build(tmp_path: Path) -> None:
    kb, documents, draw = Meadow(tmp_path / "old"), 1500, random.Random(5)
    state = texts_of(range(documents), 0)
    kb.put(state)
    kb.publish()
    answers, bodies = {}, {}
    for revision in range(1, 31):
        changed = texts_of(draw.sample(range(documents), documents // 100), revision)
        state |= changed
        kb.put(changed)
        manifest = kb.publish()
        bodies[revision] = dict(state)
        answers[revision] = kb.answers(manifest) if revision > 25 else []
        kb.tidy()
    # As the nightly housekeeping does with the cache.
    garbage_collection.collect_vectors(
        kb.store.vectors, VECTORS_PREFIX, garbage_collection.chunk_tables(kb.store, kb.manifests[-5:])
    )
    kb.store.vectors.open(kb.cache.path.stem).maintenance.cleanup(NOW)
    fresh = Meadow(tmp_path / "new")
    fresh.put(state)
    fresh.publish()
    fresh.tidy()
    fresh.cache.maintenance.cleanup(NOW)
    assert kb.part_bytes() <= 1.5 * fresh.part_bytes()
    again = Meadow(tmp_path / "old")
    for revision in range(26, 31):
        manifest = kb.manifests[revision]
        assert again.answers(manifest) == answers[revision]
        assert again.raw_bytes(manifest) == {key: text.encode() for key, text in bodies[revision].items()}
    with pytest.raises(DamagedStore):
        again.answers(kb.manifests[25])


def test_what_tidying_leaves_is_indexed_to_the_last_row_and_finds_no_deleted_row(meadow: Meadow) -> None:
    for revision in range(1, 25):
        manifest = change(meadow, revision, [revision, revision + 50])
        meadow.tidy(2)
    index = meadow.store.tables.open(manifest.tables["index"].name)
    assert index.indexes.unindexed_rows() == 0
    assert index.indexes.columns() == set(TEXT_COLUMNS)
    version = VersionReader(meadow.store, manifest)
    hits = [search_version(version, word, vector_of, k=100, mode="keyword") for word in WORDS]
    texts = {hit.key: hit.text for each in hits for hit in each}
    assert texts == {
        f"/{n}": text_of(f"/{n}", max(n if n < 25 else 0, n - 50 if 50 < n < 75 else 0)) for n in range(130)
    }


def test_tidying_tables_of_which_nothing_changed_writes_nothing(meadow: Meadow) -> None:
    manifest = change(meadow, 1, range(0, 130, 2))
    garbage_collection.tidy_tables(meadow.store, manifest)
    garbage_collection.tidy_tables(meadow.store, manifest)
    for pin in manifest.tables.values():
        assert meadow.store.tables.open(pin.name).version == pin.version


def test_a_segment_goes_with_the_last_version_that_names_it(meadow: Meadow) -> None:
    first = meadow.manifests[0]
    change(meadow, 1, range(130))
    assert compact_raw.collect_raw_segments(meadow.store, meadow.manifests, NOW, lambda: None) == 0
    assert meadow.raw_bytes(first)["/7"] == text_of("/7", 0).encode()
    assert compact_raw.collect_raw_segments(meadow.store, meadow.manifests[1:], NOW, lambda: None) > 0
    assert len(list(meadow.store.paths.raw.iterdir())) == 3
    assert meadow.raw_bytes(meadow.manifests[1])["/7"] == text_of("/7", 1).encode()


def test_young_segments_that_nothing_names_stay(meadow: Meadow) -> None:
    ((name, _),) = meadow.write_segment({"/new": b"not yet in pages"}).values()
    (meadow.store.paths.raw / "torn.tmp").write_bytes(b"half")
    hour = timedelta(hours=1)
    assert compact_raw.collect_raw_segments(meadow.store, meadow.manifests, hour, lambda: None) == 0
    for path in (meadow.store.paths.raw / name, meadow.store.paths.raw / "torn.tmp"):
        os.utime(path, (time.time() - 7200, time.time() - 7200))
    assert compact_raw.collect_raw_segments(meadow.store, meadow.manifests, hour, lambda: None) > 0
    assert len(list(meadow.store.paths.raw.iterdir())) == 3


def test_segments_still_in_a_journal_are_neither_missed_nor_touched(meadow: Meadow) -> None:
    """A run killed between writing `pages` and moving its segments: they are named, and lie in the journal."""
    journal = meadow.store.paths.journal("site")
    journal.mkdir(parents=True)
    meadow.put(texts_of([3], 1))
    name = meadow.store.tables.open(PAGES).head(["segment"], 1, "key = '/3'").to_pylist()[0]["segment"]
    (meadow.store.paths.raw / name).replace(journal / name)
    compact_raw.collect_raw_segments(meadow.store, [], NOW, lambda: None)
    compact_raw.compact_raw_segments(meadow.store, [])
    assert (journal / name).exists()
    assert len(list(meadow.store.paths.raw.iterdir())) == 3


def test_bytes_of_a_document_kept_because_its_newer_bytes_failed_stay(meadow: Meadow) -> None:
    places = meadow.write_segment({"/3": b"newer and broken"})
    sha256 = hashlib.sha256(b"newer and broken").hexdigest()
    page = {"page_id": document_id("site", "/3"), "sha256": sha256, "segment": places["/3"][0], "position": 0}
    meadow.store.tables.open(PAGES).upsert(pa.Table.from_pylist([page]))
    failed = pa.table({"document_id": [document_id("site", "/3")], "reason": ["timeout"]})
    meadow.store.tables.open(DOCUMENTS).upsert(failed)
    meadow.put(texts_of([n for n in range(130) if n != 3], 1))
    meadow.publish()
    for _ in range(3):
        meadow.tidy(1)
    stored = [body for path in meadow.store.paths.raw.iterdir() for body in pq.read_table(path)["body"].to_pylist()]
    assert text_of("/3", 0).encode() in stored
    assert text_of("/5", 0).encode() in stored, "it lies in the same segment"
    assert text_of("/100", 0).encode() not in stored


def test_garbage_among_raw_bytes_is_rewritten_and_bytes_stay_the_same(meadow: Meadow) -> None:
    manifest = change(meadow, 1, range(0, 130, 2))
    before = meadow.raw_bytes(manifest)
    assert compact_raw.compact_raw_segments(meadow.store, meadow.manifests) > 0
    assert meadow.raw_bytes(manifest) == before, "the version still names the old segments"
    after = meadow.publish()
    assert meadow.raw_bytes(after) == before
    assert compact_raw.collect_raw_segments(meadow.store, [after], NOW, lambda: None) > 0
    assert meadow.raw_bytes(after) == before
    assert compact_raw.compact_raw_segments(meadow.store, [after]) == 0, "nothing is left to gain"


@pytest.mark.parametrize("moment", ["raw.rewrite.before", "raw.rewrite.after"])
def test_a_crash_while_raw_bytes_are_rewritten_loses_nothing(
    meadow: Meadow, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = change(meadow, 1, range(0, 130, 2))
    before = meadow.raw_bytes(manifest)

    def crash(name: str) -> None:
        if name == moment:
            raise KeyboardInterrupt

    monkeypatch.setattr(compact_raw, "failpoint", crash)
    with pytest.raises(KeyboardInterrupt):
        compact_raw.compact_raw_segments(meadow.store, meadow.manifests)
    monkeypatch.undo()
    after = meadow.publish()
    assert meadow.raw_bytes(manifest) == meadow.raw_bytes(after) == before
    meadow.tidy(1)
    meadow.publish()
    meadow.tidy(1)
    assert meadow.raw_bytes(meadow.manifests[-1]) == before
    named = {row[0] for row in meadow.store.tables.open(PAGES).read_columns(["segment"]).unique().iter_rows()}
    assert {path.name for path in meadow.store.paths.raw.iterdir()} == named


def test_damaged_bytes_are_not_copied_into_a_segment_that_looks_sound(meadow: Meadow) -> None:
    change(meadow, 1, range(0, 130, 2))
    for victim in sorted(meadow.store.paths.raw.iterdir())[:2]:
        table = pq.read_table(victim)
        bodies = pa.array([b"x" + body[1:] for body in table["body"].to_pylist()])
        pq.write_table(table.set_column(table.schema.get_field_index("body"), "body", bodies), victim)
    segments = set(meadow.store.paths.raw.glob("*.parquet"))
    with pytest.raises(DamagedStore, match="not those of its hash"):
        compact_raw.compact_raw_segments(meadow.store, meadow.manifests)
    assert set(meadow.store.paths.raw.glob("*.parquet")) == segments


def test_where_a_kept_version_cannot_be_read_nothing_is_removed(meadow: Meadow) -> None:
    change(meadow, 1, range(130))
    segments = set(meadow.store.paths.raw.iterdir())
    gone = {**meadow.manifests[0].tables, "pages": TablePin(PAGES, 999)}
    unknown = manifest_of(meadow.store.key, 9, tables=gone)
    with pytest.raises(DamagedStore):
        compact_raw.collect_raw_segments(meadow.store, [unknown], NOW, lambda: None)
    assert set(meadow.store.paths.raw.iterdir()) == segments


def test_only_vectors_that_no_kb_and_no_kept_version_uses_are_removed(meadow: Meadow) -> None:
    other = Meadow(meadow.store.paths.data_dir, "other")
    other.put({"/theirs": "only theirs"})
    change(meadow, 1, range(65))
    change(meadow, 2, range(65))

    def tables() -> Any:
        yield from garbage_collection.chunk_tables(meadow.store, meadow.manifests[1:])
        yield from garbage_collection.chunk_tables(other.store, [])

    assert garbage_collection.collect_vectors(meadow.store.vectors, VECTORS_PREFIX, tables()) == 65
    left = set(vectors_table(meadow.store, MODEL).read_columns(["text_hash"])["text_hash"])
    texts = [*texts_of(range(65, 130), 0).values(), *texts_of(range(65), 1).values(), *texts_of(range(65), 2).values()]
    assert left == {digest(text) for text in [*texts, "only theirs"]}


def test_tables_of_models_that_no_kept_version_uses_go_after_the_grace(meadow: Meadow) -> None:
    folder, current = meadow.store.tables, index_name(MODEL.fingerprint)
    folder.open_or_create(index_name("old" * 8), index_schema(4))
    assert garbage_collection.drop_tables(folder, INDEX_PREFIX, {current}, timedelta(hours=1)) == 0
    assert garbage_collection.drop_tables(folder, INDEX_PREFIX, {current}, NOW) == 1
    assert folder.names(INDEX_PREFIX) == [current]
    assert not folder.exists(index_name("old" * 8))
    assert meadow.answers(meadow.manifests[0])
