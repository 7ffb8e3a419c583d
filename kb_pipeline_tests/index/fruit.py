"""A small KB whose stage tables are written directly, with vectors made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kb_pipeline.chunk.refresh import chunks_schema
from kb_pipeline.clean.refresh import documents_schema
from kb_pipeline.embed.refresh import vectors_table
from kb_pipeline.errors import UnknownModel
from kb_pipeline.fetch.fetch_state import pages_schema
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.index.search import search_version
from kb_pipeline.model import EmbeddingModel, KbKey, digest, document_id
from kb_pipeline.publish.candidate import Candidate, Recipe, build_candidate
from kb_pipeline.publish.integrity_gates import ChunkText
from kb_pipeline.spec.kb_file import KbSpec, parse_spec
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.manifest import Manifest
from kb_pipeline.store.paths import KbPaths
from kb_pipeline.store.stage_tables import CHUNKS, DOCUMENTS, PAGES

DIMENSION = 8
MODEL = EmbeddingModel("by-hand", "f" * 32, DIMENSION)
RECIPE = Recipe({"clean": {"version": "1"}, "chunk": {"version": "1"}}, {})
TEXTS = {
    "/apples": ("en", "Apples keep for months in a cool cellar."),
    "/pears": ("en", "Pears ripen after they are picked."),
    "/birnen": ("de", "Birnen reifen nach der Ernte nach."),
    "/tenki": ("ja", "明日の天気は晴れです。"),
}


def spec(publish: str = "{}") -> KbSpec:
    source = "{name: site, type: web, start_urls: ['http://x.example/']}"
    return parse_spec(f"tenant: acme\nkb: fruit\nsources: [{source}]\npublish: {publish}\n", "test")


def vector_of(text: str) -> np.ndarray:
    seed = int(digest(text)[:8], 16)
    vector = np.random.default_rng(seed).normal(size=DIMENSION).astype(np.float32)
    return vector / np.linalg.norm(vector)


class ByHand:
    """A model whose vectors are drawn from the text's hash."""

    def embed_query(self, text: str) -> np.ndarray:
        return vector_of(text)

    def embed_query_with(self, model: EmbeddingModel, text: str) -> np.ndarray:
        raise UnknownModel(model.name, "there is but one by hand")

    def embed_chunks(self, chunks: Sequence[ChunkText]) -> np.ndarray:
        return np.stack([vector_of(chunk.text) for chunk in chunks])


class Fruit:
    """A small KB whose stage tables are written directly."""

    def __init__(self, data_dir: Path) -> None:
        self.store = KbStore(KbPaths(data_dir, KbKey("acme", "fruit")))
        self.pages = self.store.tables.open_or_create(PAGES, pages_schema())
        self.documents = self.store.tables.open_or_create(DOCUMENTS, documents_schema())
        self.chunks = self.store.tables.open_or_create(CHUNKS, chunks_schema())
        self.vectors = vectors_table(self.store, MODEL)

    def put(self, texts: dict[str, tuple[str, str]]) -> None:
        for key, (language, text) in texts.items():
            doc_id, hashed = document_id("site", key), digest(language, text)
            base = {
                "source": "site",
                "key": key,
                "title": key.strip("/"),
                "language": language,
                "document_hash": hashed,
            }
            page = {"page_id": doc_id, "source": "site", "key": key, "outcome": "fetched", "sha256": hashed}
            self.pages.upsert(pa.Table.from_pylist([page], schema=pages_schema()))
            document = base | {
                "document_id": doc_id,
                "outcome": "document",
                "markdown": text,
                "raw_sha256": digest(key),
            }
            self.documents.upsert(pa.Table.from_pylist([document], schema=documents_schema()))
            chunk = base | {"chunk_id": digest(doc_id, text), "document_id": doc_id, "headings": [], "ordinal": 0}
            chunk |= {"start": 0, "end": len(text), "text": text, "words": text, "tokens": 9, "text_hash": digest(text)}
            self.chunks.replace_group(pa.Table.from_pylist([chunk], schema=chunks_schema()), "document_id", [doc_id])
            self.put_vector(text, vector_of(text))

    def put_vector(self, text: str, vector: np.ndarray) -> None:
        column = pa.FixedSizeListArray.from_arrays(pa.array(vector.astype(np.float32)), DIMENSION)
        self.vectors.append(
            [pa.RecordBatch.from_arrays([pa.array([digest(text)]), column], schema=self.vectors.schema)]
        )

    def remove(self, keys: Sequence[str]) -> None:
        ids = [document_id("site", key) for key in keys]
        self.pages.delete("page_id", ids)
        self.documents.delete("document_id", ids)
        self.chunks.delete("document_id", ids)

    def candidate(self, live: Manifest | None = None, publish: str = "{}") -> Candidate:
        return build_candidate(
            self.store, spec(publish), MODEL, self.vectors, live, ByHand(), RECIPE, "run", lambda done, total: None
        )

    def reader(self, manifest: Manifest) -> VersionReader:
        return VersionReader(self.store, manifest)

    def search(self, manifest: Manifest, query: str, **options: Any) -> list[str]:
        return [hit.key for hit in search_version(self.reader(manifest), query, vector_of, **options)]


def failed(candidate: Candidate) -> list[str]:
    return [gate.name for gate in candidate.gates if not gate.passed]
