"""A folder of tables: what is opened, made, kept from late writers, and dropped."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pyarrow as pa
import pytest

from kb_pipeline.errors import DamagedStore, LeaseLost
from kb_pipeline.store.lance_database import LanceDatabase
from kb_pipeline.store.table import LanceTable
from kb_pipeline_tests.store.test_table import SCHEMA, rows

pytestmark = pytest.mark.upgrade("lance")


@pytest.fixture
def table(tmp_path: Path) -> LanceTable:
    return LanceDatabase(tmp_path).open_or_create("chunks", SCHEMA)


def test_a_table_that_cannot_be_opened_says_which(tmp_path: Path, table: LanceTable) -> None:
    table.append(rows("a").to_batches())
    for manifest in table.path.glob("_versions/*"):
        manifest.write_bytes(b"")
    with pytest.raises(DamagedStore, match="table chunks in"):
        LanceDatabase(tmp_path).open("chunks")


def test_a_table_of_an_earlier_release_gets_the_columns_that_it_lacks(tmp_path: Path) -> None:
    old = pa.schema([pa.field("chunk_id", pa.string(), nullable=False)])
    folder = LanceDatabase(tmp_path)
    folder.open_or_create("things", old).append(pa.table({"chunk_id": ["a"]}, schema=old).to_batches())
    grown = folder.open_or_create("things", pa.schema([*old, ("seen", pa.timestamp("us", tz="UTC"))]))
    assert grown.head(["chunk_id", "seen"], 5).to_pylist() == [{"chunk_id": "a", "seen": None}]
    assert folder.open_or_create("things", grown.schema).version == grown.version


def test_a_writer_that_may_not_write_any_more_changes_nothing(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("chunk_id", pa.string(), nullable=False)])
    LanceDatabase(tmp_path).open_or_create("things", schema)

    def refuse() -> None:
        raise LeaseLost("acme/docs", "run-1")

    late = LanceDatabase(tmp_path, refuse).open("things")
    with pytest.raises(LeaseLost):
        late.append(pa.table({"chunk_id": ["a"]}, schema=schema).to_batches())
    assert LanceDatabase(tmp_path).open("things").count() == 0


def test_a_dropped_table_is_gone_even_if_removing_its_files_was_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = LanceDatabase(tmp_path)
    folder.open_or_create("index_a", SCHEMA).append(rows("a").to_batches())
    folder.open_or_create("index_b", SCHEMA)
    monkeypatch.setattr("kb_pipeline.store.lance_database.shutil.rmtree", lambda *args, **options: None)
    folder.drop("index_a")
    monkeypatch.undo()
    assert folder.names("index_") == ["index_b"]
    assert folder.open_or_create("index_a", SCHEMA).count() == 0
    folder.drop("index_b")
    assert [path.name for path in tmp_path.iterdir()] == ["index_a.lance"]


def test_tables_are_listed_by_the_beginning_of_their_names(tmp_path: Path) -> None:
    folder = LanceDatabase(tmp_path)
    for name in ("index_b", "index_a", "chunks"):
        folder.open_or_create(name, SCHEMA)
    assert folder.names("index_") == ["index_a", "index_b"]
    assert [folder.exists(name) for name in ("chunks", "pages")] == [True, False]


def test_the_age_of_a_table_is_that_of_its_newest_commit(table: LanceTable) -> None:
    for path in table.path.glob("_versions/*"):
        os.utime(path, (time.time() - 7200, time.time() - 7200))
    folder = LanceDatabase(table.path.parent)
    assert folder.age_s("chunks") >= 7200
    table.append(rows("a").to_batches())
    assert folder.age_s("chunks") < 3600


def test_a_pinned_table_stays_what_it_was(table: LanceTable) -> None:
    table.append(rows("a").to_batches())
    pinned = LanceDatabase(table.path.parent).open("chunks", table.version)
    table.append(rows("b").to_batches())
    assert (pinned.count(), table.count()) == (1, 2)


def test_a_pinned_table_is_for_reading(table: LanceTable) -> None:
    table.append(rows("a").to_batches())
    pinned = LanceDatabase(table.path.parent).open("chunks", table.version)
    table.append(rows("b").to_batches())
    with pytest.raises(RuntimeError, match="for reading"):
        pinned.delete("chunk_id", ["a"])
    assert table.count() == 2


def test_two_who_make_the_same_table_both_have_it(table: LanceTable) -> None:
    table.append(rows("a").to_batches())
    late = LanceDatabase(table.path.parent)
    late._create("chunks", SCHEMA)
    assert late.open("chunks").count() == 1
