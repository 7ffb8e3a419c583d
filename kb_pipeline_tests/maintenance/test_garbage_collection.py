"""Many small refreshes over real Lance tables: what is freed, and that nothing needed ever is."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kb_pipeline.embed.refresh import vectors_table
from kb_pipeline.errors import DamagedStore
from kb_pipeline.index.build import TEXT_COLUMNS, index_name, index_schema
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.index.search import search_version
from kb_pipeline.maintenance import garbage_collection
from kb_pipeline.model import digest
from kb_pipeline.store.stage_tables import INDEX_PREFIX, VECTORS_PREFIX
from kb_pipeline_tests.index.fruit import MODEL, vector_of
from kb_pipeline_tests.maintenance.meadow import NOW, WORDS, Meadow, change, text_of, texts_of


@pytest.fixture
def meadow(tmp_path: Path) -> Meadow:
    kb = Meadow(tmp_path)
    kb.put(texts_of(range(130), 0))
    kb.publish()
    return kb


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
