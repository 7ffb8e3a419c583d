"""A KB of many small documents, written and published in bulk."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kb_pipeline.chunk.refresh import chunks_schema
from kb_pipeline.clean.refresh import documents_schema
from kb_pipeline.embed.refresh import vectors_table
from kb_pipeline.fetch.fetch_state import pages_schema
from kb_pipeline.index.build import build_index, index_name, index_schema
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.index.search import Mode, search_version
from kb_pipeline.maintenance import compact_raw, garbage_collection
from kb_pipeline.model import KbKey, digest, document_id
from kb_pipeline.store.durable_files import folder_bytes
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.manifest import Manifest, TablePin
from kb_pipeline.store.paths import KbPaths
from kb_pipeline.store.raw_segments import read_bodies
from kb_pipeline.store.stage_tables import CHUNKS, DOCUMENTS, PAGES
from kb_pipeline_tests.index.fruit import MODEL, vector_of
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


def change(kb: Meadow, revision: int, keys: Sequence[int]) -> Manifest:
    kb.put(texts_of(keys, revision))
    return kb.publish()
