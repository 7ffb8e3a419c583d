"""Damaged files on disk: what is read instead, what is made again, what is set aside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kb_pipeline.errors import DamagedStore
from kb_pipeline.maintenance.repair import DAMAGED, repair_heads, reset_heads
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.stage_tables import CHUNKS, DOCUMENTS, PAGES
from kb_pipeline_tests.index.orchard import Orchard


@pytest.fixture
def orchard(tmp_path: Path) -> Orchard:
    """Version 1 is live, and the head has one document more."""
    orchard = Orchard(tmp_path)
    orchard.grow("/apples", "Apples keep for months.", "Best on wooden shelves.")
    orchard.grow("/pears", "Pears ripen after they are picked.")
    orchard.publish()
    orchard.grow("/plums", "Plums are dried into prunes.")
    return orchard


def fresh(orchard: Orchard) -> KbStore:
    """Open the store as another process would."""
    return KbStore(orchard.store.paths)


def keys(store: KbStore, table: str = DOCUMENTS) -> set[str]:
    return set(store.tables.open(table).read_columns(["key"])["key"])


def newest(orchard: Orchard, table: str, folder: str, pattern: str) -> Path:
    files = (orchard.store.paths.lance / f"{table}.lance" / folder).glob(pattern)
    return max(files, key=lambda path: path.stat().st_mtime_ns)


def halve(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def test_nothing_is_done_to_a_store_that_is_whole(orchard: Orchard) -> None:
    heads = {name: orchard.store.tables.open(name).version for name in (PAGES, DOCUMENTS, CHUNKS)}
    assert repair_heads(fresh(orchard), orchard.manifests[-1]) == []
    assert {name: orchard.store.tables.open(name).version for name in heads} == heads
    assert not orchard.store.paths.quarantine.exists()


@pytest.mark.parametrize("damage", [halve, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("table", [PAGES, DOCUMENTS, CHUNKS])
def test_a_damaged_newest_commit_is_set_aside_and_the_one_before_it_is_read(
    orchard: Orchard, table: str, damage: Callable[[Path], object]
) -> None:
    damage(newest(orchard, table, "_versions", "*.manifest"))
    with pytest.raises(DamagedStore):
        fresh(orchard).tables.open(table)
    (said,) = repair_heads(fresh(orchard), orchard.manifests[-1])
    assert said == f"table {table}: 1 damaged commits set aside"
    assert keys(fresh(orchard), table) == {"/apples", "/pears"}
    assert len(list(orchard.store.paths.quarantine.iterdir())) == 1
    assert repair_heads(fresh(orchard), orchard.manifests[-1]) == []


def test_damaged_data_of_the_head_brings_the_published_version_back(orchard: Orchard) -> None:
    halve(newest(orchard, DOCUMENTS, "data", "*.lance"))
    with pytest.raises(DamagedStore):
        list(fresh(orchard).tables.open(DOCUMENTS).stream(["markdown"]))
    (said,) = repair_heads(fresh(orchard), orchard.manifests[-1])
    assert "went back to the last version published" in said
    assert keys(fresh(orchard)) == {"/apples", "/pears"}


def test_data_damaged_in_the_published_version_too_is_made_again_from_nothing(orchard: Orchard) -> None:
    for path in (orchard.store.paths.lance / f"{CHUNKS}.lance" / "data").glob("*.lance"):
        halve(path)
    (said,) = repair_heads(fresh(orchard), orchard.manifests[-1])
    assert "is made anew" in said
    table = fresh(orchard).tables.open(CHUNKS)
    assert table.count() == 0
    assert table.version > orchard.manifests[-1].tables["chunks"].version, "numbers of old versions stay taken"


def test_a_table_of_which_no_commit_can_be_read_is_set_aside_whole(orchard: Orchard) -> None:
    for path in (orchard.store.paths.lance / f"{DOCUMENTS}.lance" / "_versions").glob("*.manifest"):
        path.write_bytes(b"")
    (said,) = repair_heads(fresh(orchard), orchard.manifests[-1])
    assert "no version can be opened" in said
    assert not fresh(orchard).tables.exists(DOCUMENTS)


def test_pages_whose_raw_bytes_are_damaged_are_to_be_fetched_again(orchard: Orchard) -> None:
    (segment,) = orchard.store.paths.raw.glob("*-pears.parquet")
    halve(segment)
    (said,) = repair_heads(fresh(orchard), orchard.manifests[-1])
    assert said == "1 raw segments cannot be read: their pages are fetched again"
    rows = fresh(orchard).tables.open(PAGES).head(["key", "sha256", "etag", "segment"], 9).to_pylist()
    (pears,) = [row for row in rows if row["key"] == "/pears"]
    assert (pears["sha256"], pears["etag"], pears["segment"]) == (DAMAGED, None, None)
    assert all(row["segment"] for row in rows if row["key"] != "/pears")
    assert not segment.exists()


@pytest.mark.parametrize("gate", ["keys_unique", "counts_reconcile", "columns_readable"])
def test_a_head_that_failed_a_check_of_its_rows_goes_back_to_the_live_version(orchard: Orchard, gate: str) -> None:
    assert reset_heads(orchard.store, orchard.manifests[-1], [gate, "not_shrunk"]) == ["went back to version 1"]
    assert keys(fresh(orchard)) == keys(fresh(orchard), CHUNKS) == {"/apples", "/pears"}


def test_without_a_live_version_a_head_that_failed_starts_from_nothing(orchard: Orchard) -> None:
    assert reset_heads(orchard.store, None, ["keys_unique"]) == ["emptied the tables of the first build"]
    assert keys(fresh(orchard)) == set()


def test_bad_vectors_empty_the_cache_that_they_came_from(orchard: Orchard) -> None:
    assert orchard.vectors.count() > 0
    done = reset_heads(orchard.store, orchard.manifests[-1], ["vectors_match"])
    assert len(done) == 2
    assert fresh(orchard).vectors.open(orchard.vectors.path.stem).count() == 0


def test_a_check_about_the_sources_touches_no_table(orchard: Orchard) -> None:
    assert reset_heads(orchard.store, orchard.manifests[-1], ["not_shrunk", "has_documents"]) == []
    assert keys(fresh(orchard)) == {"/apples", "/pears", "/plums"}
