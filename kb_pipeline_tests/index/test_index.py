"""Building, judging and searching a version over real Lance tables, with vectors made by hand."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from kb_pipeline.chunk.refresh import chunks_schema
from kb_pipeline.clean.refresh import documents_schema
from kb_pipeline.embed.refresh import vectors_table
from kb_pipeline.errors import DamagedStore, UnknownModel, UsageError
from kb_pipeline.fetch.fetch_state import pages_schema
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.index.search import Hit, fuse, search_version
from kb_pipeline.model import EmbeddingModel, KbKey, digest, document_id
from kb_pipeline.publish.candidate import Candidate, Recipe, build_candidate, pin_candidate
from kb_pipeline.publish.integrity_gates import ChunkText
from kb_pipeline.spec.kb_file import KbSpec, parse_spec
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.manifest import Counts, Manifest
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
            document = base | {"document_id": doc_id, "outcome": "document", "markdown": text}
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


@pytest.fixture
def fruit(tmp_path: Path) -> Fruit:
    kb = Fruit(tmp_path)
    kb.put(TEXTS)
    return kb


def failed(candidate: Candidate) -> list[str]:
    return [gate.name for gate in candidate.gates if not gate.passed]


def test_a_sound_candidate_passes_every_gate_and_is_found_each_way(fruit: Fruit) -> None:
    candidate = fruit.candidate()
    assert (candidate.status, failed(candidate)) == ("candidate", [])
    manifest = pin_candidate(fruit.store, candidate.manifest, 1, None)
    assert manifest.counts == Counts(documents=4, chunks=4)
    assert fruit.search(manifest, "cellar", mode="keyword") == ["/apples"]
    assert fruit.search(manifest, TEXTS["/pears"][1], mode="vector")[0] == "/pears"
    assert fruit.search(manifest, TEXTS["/birnen"][1])[0] == "/birnen"


def test_words_are_found_in_scripts_without_spaces(fruit: Fruit) -> None:
    assert fruit.search(fruit.candidate().manifest, "天気", mode="keyword") == ["/tenki"]


def test_the_language_filter_holds_in_every_mode(fruit: Fruit) -> None:
    manifest = fruit.candidate().manifest
    for mode in ("hybrid", "vector", "keyword"):
        assert fruit.search(manifest, "Birnen pears", mode=mode, language="de") == ["/birnen"]


@pytest.mark.parametrize(
    "options", [{"k": 0}, {"k": 10**9}, {"language": "de' OR '1'='1"}, {"language": "DE"}], ids=str
)
def test_search_arguments_out_of_range_are_refused(fruit: Fruit, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        fruit.search(fruit.candidate().manifest, "pears", **options)


@pytest.mark.parametrize(
    "query", ["it's", 'a "quoted" word', "(", "AND OR NOT", "*", "title:x", "\\", "天" * 3000, "\x00"]
)
def test_odd_queries_are_searched_not_parsed(fruit: Fruit, query: str) -> None:
    assert len(fruit.search(fruit.candidate().manifest, query)) == 4


def test_an_empty_query_is_refused(fruit: Fruit) -> None:
    with pytest.raises(UsageError, match="empty"):
        fruit.search(fruit.candidate().manifest, "  ")


def test_nothing_changed_means_no_gates_and_no_commit(fruit: Fruit) -> None:
    live = pin_candidate(fruit.store, fruit.candidate().manifest, 1, None)
    before = fruit.store.tables.open(live.tables["index"].name).version
    again = fruit.candidate(live)
    assert again.unchanged
    assert again.manifest.tables["index"].version == before


def test_a_reader_of_the_live_version_sees_nothing_of_the_next(fruit: Fruit) -> None:
    live = pin_candidate(fruit.store, fruit.candidate().manifest, 1, None)
    fruit.remove(["/apples"])
    fruit.put({"/plums": ("en", "Plums are blue.")})
    candidate = fruit.candidate(live, "{max_shrink: 1}")
    assert fruit.search(live, "cellar", mode="keyword") == ["/apples"]
    assert fruit.search(live, "plums", mode="keyword") == []
    assert fruit.search(candidate.manifest, "plums", mode="keyword") == ["/plums"]
    assert fruit.search(candidate.manifest, "cellar", mode="keyword") == []


def test_the_same_content_has_the_same_hash_whatever_the_order(tmp_path: Path) -> None:
    hashes = set()
    for number, keys in enumerate([list(TEXTS), list(reversed(TEXTS))]):
        kb = Fruit(tmp_path / str(number))
        for key in keys:
            kb.put({key: TEXTS[key]})
        hashes.add(kb.candidate().manifest.content.sha256)
    assert len(hashes) == 1


def test_a_shrunk_candidate_is_held(fruit: Fruit) -> None:
    live = pin_candidate(fruit.store, fruit.candidate().manifest, 1, None)
    fruit.remove(["/apples", "/pears"])
    candidate = fruit.candidate(live)
    assert (candidate.status, failed(candidate)) == ("held", ["not_shrunk"])
    assert "2 of 4 documents vanished (50%); allowed are 20%" in [gate.message for gate in candidate.gates]


def test_an_empty_candidate_fails(fruit: Fruit) -> None:
    fruit.remove(list(TEXTS))
    candidate = fruit.candidate()
    assert (candidate.status, failed(candidate)) == ("failed", ["has_documents"])


def test_golden_queries_hold_a_candidate_that_cannot_answer_them(fruit: Fruit) -> None:
    good = "{queries: [{query: cellar, key: /apples}, {query: Birnen, text: Ernte}]}"
    assert fruit.candidate(publish=good).status == "candidate"
    bad = fruit.candidate(publish="{queries: [{query: cellar, key: /nowhere}]}")
    assert (bad.status, failed(bad)) == ("held", ["golden_queries"])


@pytest.mark.parametrize("value", [np.inf, 0.0], ids=str)  # a NaN is refused by Lance itself
def test_a_bad_vector_fails_the_candidate(fruit: Fruit, value: float) -> None:
    text = "Quinces are hard."
    fruit.put({"/quinces": ("en", text)})
    fruit.vectors.delete("text_hash", [digest(text)])
    fruit.put_vector(text, np.full(DIMENSION, value, dtype=np.float32))
    assert "vectors_valid" in failed(fruit.candidate())


def test_a_vector_beside_the_wrong_text_fails_the_candidate(fruit: Fruit) -> None:
    text = "Quinces are hard."
    fruit.put({"/quinces": ("en", text)})
    fruit.vectors.delete("text_hash", [digest(text)])
    fruit.put_vector(text, vector_of("something else"))
    assert failed(fruit.candidate()) == ["vectors_match"]


def test_every_row_of_a_large_index_has_the_vector_of_its_own_text(fruit: Fruit) -> None:
    texts = {f"/many/{n}": ("en", f"Tree {n} bears {n * 7} apples.") for n in range(60)}
    for key in random.Random(3).sample(list(texts), len(texts)):  # the cache is not in the order of the chunks
        fruit.put({key: texts[key]})
    manifest = fruit.candidate().manifest
    index = fruit.store.tables.open(manifest.tables["index"].name)
    for row in index.head(["text", "vector"], 100).to_pylist():
        assert np.allclose(row["vector"], vector_of(row["text"]), atol=1e-6)


def test_a_chunk_without_a_vector_is_an_error_that_names_the_remedy(fruit: Fruit) -> None:
    fruit.vectors.delete("text_hash", [digest(TEXTS["/pears"][1])])
    with pytest.raises(DamagedStore, match="1 chunks have no vector; materialize embeddings"):
        fruit.candidate()


def test_doubled_keys_fail_the_candidate(fruit: Fruit) -> None:
    row = fruit.pages.head(fruit.pages.schema.names, 1)
    fruit.pages.append(row.cast(pages_schema()).to_batches())
    assert {"keys_unique", "counts_reconcile"} == set(failed(fruit.candidate()))


def test_a_document_without_chunks_fails_the_candidate(fruit: Fruit) -> None:
    fruit.chunks.delete("document_id", [document_id("site", "/pears")])
    assert failed(fruit.candidate()) == ["counts_reconcile"]


def test_a_data_file_cut_in_half_fails_the_candidate(fruit: Fruit) -> None:
    live = pin_candidate(fruit.store, fruit.candidate().manifest, 1, None)
    fruit.put({"/plums": ("en", "Plums are blue.")})
    victim = max(fruit.store.paths.lance.glob(f"{DOCUMENTS}.lance/data/*.lance"), key=lambda p: p.stat().st_size)
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    fresh = Fruit(fruit.store.paths.data_dir)
    try:
        candidate = fresh.candidate(live)
    except (DamagedStore, OSError, RuntimeError):
        return  # a narrow column could not be read even before the gates
    assert "columns_readable" in failed(candidate)


def test_tags_keep_a_version_through_cleanup_and_without_them_it_goes(fruit: Fruit) -> None:
    from datetime import timedelta

    first = pin_candidate(fruit.store, fruit.candidate().manifest, 1, None)
    fruit.put({"/plums": ("en", "Plums are blue.")})
    second = pin_candidate(fruit.store, fruit.candidate(first).manifest, 2, first)
    index = fruit.store.tables.open(second.tables["index"].name)
    index.maintenance.cleanup(timedelta(0))
    assert fruit.search(first, "plums", mode="keyword") == []
    index.tags.remove("v1")
    index.maintenance.cleanup(timedelta(0))
    with pytest.raises(DamagedStore):
        Fruit(fruit.store.paths.data_dir).search(first, "plums")
    assert fruit.search(second, "plums", mode="keyword") == ["/plums"]


def test_fusing_prefers_what_both_rankings_found() -> None:
    found = fuse(ranking("ab"), ranking("bc"))
    assert [(hit.rank, hit.chunk_id) for hit in found] == [(1, "b"), (2, "a"), (3, "c")]
    assert [hit.score for hit in found] == [1 / 61 + 1 / 62, 1 / 61, 1 / 62]


def ranking(chunk_ids: str) -> list[Hit]:
    return [
        Hit(rank, 1.0, "/key", "title", (), "text", "en", "document", chunk_id, 0, 4)
        for rank, chunk_id in enumerate(chunk_ids, start=1)
    ]
