"""Rows of a table: read in the order asked for, written in one commit, lost by nobody."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from kb_pipeline.errors import DamagedStore
from kb_pipeline.store.lance_database import LanceDatabase
from kb_pipeline.store.table import LanceTable, sql_in

pytestmark = pytest.mark.upgrade("lance")

SCHEMA = pa.schema([pa.field("chunk_id", pa.string()), pa.field("group", pa.string()), pa.field("n", pa.int64())])


def rows(*ids: str, group: str = "a") -> pa.Table:
    return pa.Table.from_pylist([{"chunk_id": i, "group": group, "n": len(i)} for i in ids], schema=SCHEMA)


@pytest.fixture
def table(tmp_path: Path) -> LanceTable:
    return LanceDatabase(tmp_path).open_or_create("chunks", SCHEMA)


def test_rows_are_taken_in_the_order_asked_for(table: LanceTable) -> None:
    for start in range(0, 400, 100):
        table.append(rows(*(f"{n:04}" for n in range(start, start + 100))).to_batches())
    frame = table.read_columns(["chunk_id"], row_ids=True)
    wanted = random.Random(7).sample(frame.rows(), 150)
    taken = [
        i
        for part in table.take([row_id for _, row_id in wanted], ["chunk_id"], 64)
        for i in part["chunk_id"].to_pylist()
    ]
    assert taken == [i for i, _ in wanted]


def test_a_filter_quotes_what_it_is_given() -> None:
    assert sql_in("chunk_id", ["a'b", "x' OR '1'='1"]) == "chunk_id IN ('a''b', 'x'' OR ''1''=''1')"


@pytest.mark.parametrize("value", ["it's", 'say "hi"', "\\", "%", "x') OR ('1'='1", "\n", "日本", "--", ";"])
def test_hostile_values_delete_only_themselves(table: LanceTable, value: str) -> None:
    table.append(rows(value, "other").to_batches())
    table.delete("chunk_id", [value])
    assert table.read_columns(["chunk_id"])["chunk_id"].to_list() == ["other"]


def test_replacing_a_group_is_one_commit_and_touches_no_other_group(table: LanceTable) -> None:
    table.append(rows("a1", "a2").to_batches())
    table.append(rows("b1", group="b").to_batches())
    before = table.version
    table.replace_group(rows("a2", "a3"), "group", ["a"])
    assert table.version == before + 1
    assert sorted(table.read_columns(["chunk_id"])["chunk_id"].to_list()) == ["a2", "a3", "b1"]


def test_a_part_of_the_columns_updates_and_inserts_nothing(table: LanceTable) -> None:
    table.append(rows("a", "b").to_batches())
    table.upsert(pa.table({"chunk_id": ["b", "new"], "n": pa.array([7, 7], pa.int64())}))
    assert sorted(table.read_columns(["chunk_id", "group", "n"]).rows()) == [("a", "a", 1), ("b", "a", 7)]


def test_a_restored_table_has_the_rows_of_that_version_again(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("chunk_id", pa.string(), nullable=False)])
    table = LanceDatabase(tmp_path).open_or_create("things", schema)
    table.append(pa.table({"chunk_id": ["a", "b"]}, schema=schema).to_batches())
    before = table.version
    table.delete("chunk_id", ["a"])
    table.restore(before)
    assert sorted(row["chunk_id"] for row in table.head(["chunk_id"], 5).to_pylist()) == ["a", "b"]
    assert LanceDatabase(tmp_path).open("things").count() == 2


def test_a_table_added_at_once_lies_in_files_that_can_be_rewritten_alone(tmp_path: Path) -> None:
    table = LanceDatabase(tmp_path).open_or_create("index_x", SCHEMA)
    table.append_many(rows(*(f"{n:05}" for n in range(6400))).to_batches(), 6400)
    assert len(list(table.path.glob("data/*.lance"))) == 32
    assert (table.count(), len(table.read_columns(["chunk_id"]).unique())) == (6400, 6400)


def test_optimizing_a_table_that_wastes_nothing_writes_nothing(table: LanceTable) -> None:
    table.append(rows(*(f"{n:03}" for n in range(300))).to_batches())
    table.delete("chunk_id", ["007"])
    before = table.version
    table.optimize()
    assert table.version == before


def test_optimizing_merges_small_commits_and_keeps_every_row(table: LanceTable) -> None:
    for n in range(12):
        table.append(rows(f"{n:02}").to_batches())
    table.optimize()
    assert len(list(table.path.glob("data/*.lance"))) == 13
    assert sorted(table.read_columns(["chunk_id"])["chunk_id"]) == [f"{n:02}" for n in range(12)]


def test_writers_of_the_same_table_at_once_lose_no_row_and_never_fail(tmp_path: Path) -> None:
    LanceDatabase(tmp_path).open_or_create("chunks", SCHEMA)
    barrier = threading.Barrier(4)

    def write(writer: int) -> None:
        table = LanceDatabase(tmp_path).open("chunks")
        barrier.wait()
        for n in range(12):
            table.append(rows(f"{writer}-{n}").to_batches())
            table.optimize()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(write, writer) for writer in range(4)]:
            done.result()
    ids = LanceDatabase(tmp_path).open("chunks").read_columns(["chunk_id"])["chunk_id"].to_list()
    assert sorted(ids) == sorted(f"{writer}-{n}" for writer in range(4) for n in range(12))


def test_two_who_rewrite_the_same_files_at_once_both_go_on(table: LanceTable, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(8):
        table.append(rows(f"{n}").to_batches())
    other = LanceDatabase(table.path.parent).open("chunks")
    stale = table._handle.head()
    monkeypatch.setattr(table._handle, "head", lambda: stale)
    other.optimize()
    table.optimize()
    assert sorted(table.read_columns(["chunk_id"])["chunk_id"]) == [f"{n}" for n in range(8)]


def test_other_errors_of_optimizing_are_not_hidden(table: LanceTable, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(table._handle, "head", broken)
    with pytest.raises(OSError, match="No space"):
        table.optimize()


@dataclass(frozen=True, slots=True)
class Told:
    chunk_id: str
    n: int
    later: str | None
    """A column that the table does not have."""


def test_rows_are_read_as_the_type_that_names_their_columns(table: LanceTable) -> None:
    table.append(rows("a", "bb", "ccc").to_batches())
    assert sorted(table.rows(Told), key=lambda row: row.n) == [
        Told("a", 1, None),
        Told("bb", 2, None),
        Told("ccc", 3, None),
    ]
    assert (
        table.rows(Told, sql_in("chunk_id", ["bb"])) == list(table.stream_rows(Told, "n = 2")) == [Told("bb", 2, None)]
    )
    assert len(table.rows(Told, limit=2)) == 2


def test_a_doubled_key_is_damage(table: LanceTable) -> None:
    table.append(rows("a", "b").to_batches())
    assert table.require_unique(table.read_columns(["chunk_id"])).height == 2
    assert table.is_whole()
    table.append(rows("b").to_batches())
    with pytest.raises(DamagedStore, match="1 rows have a chunk_id that another row has"):
        table.require_unique(table.read_columns(["chunk_id"]))
    assert not table.is_whole()


def test_the_key_of_a_table_is_that_of_its_role(tmp_path: Path) -> None:
    folder = LanceDatabase(tmp_path)
    keys = {name: folder.open_or_create(name, SCHEMA).key for name in ("pages", "documents", "index_ab", "model_cd")}
    assert keys == {"pages": "page_id", "documents": "document_id", "index_ab": "chunk_id", "model_cd": "text_hash"}


def test_purged_rows_are_in_no_file_and_in_no_version(table: LanceTable) -> None:
    table.append(rows("secret", "plain").to_batches())
    assert b"secret" in b"".join(path.read_bytes() for path in table.path.glob("data/*"))
    assert table.purge_rows("chunk_id", ["secret", "nowhere"]) == 1
    assert b"secret" not in b"".join(path.read_bytes() for path in table.path.rglob("*") if path.is_file())
    assert table.read_columns(["chunk_id"])["chunk_id"].to_list() == ["plain"]


def test_set_columns_and_cleared_tables(table: LanceTable) -> None:
    table.append(rows("a", "b").to_batches())
    table.set_where("chunk_id", ["b"], {"group": None})
    assert sorted(table.read_columns(["chunk_id", "group"]).rows()) == [("a", "a"), ("b", None)]
    version = table.version
    table.clear()
    assert (table.count(), LanceDatabase(table.path.parent).open("chunks", version).count()) == (0, 2)


def test_a_file_cut_in_half_is_damage_to_readers_and_not_to_count(table: LanceTable) -> None:
    table.append(rows(*(f"{n:05}" for n in range(3000))).to_batches())
    (file,) = table.path.glob("data/*.lance")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    fresh = LanceDatabase(table.path.parent).open("chunks")
    assert fresh.count() == 3000
    for read in (
        lambda: fresh.read_columns(["group"]),
        lambda: list(fresh.stream(["group"])),
        lambda: fresh.rows(Told),
        lambda: fresh.head(["group"], 3),
    ):
        with pytest.raises(DamagedStore):
            read()
    assert not fresh.is_whole()


def test_rows_that_are_gone_are_missed(table: LanceTable) -> None:
    table.append(rows("a", "b").to_batches())
    ids = [row_id for _, row_id in table.read_columns(["chunk_id"], row_ids=True).rows()]
    table.delete("chunk_id", ["a"])
    with pytest.raises(DamagedStore, match="1 rows that were there are gone"):
        list(table.take(ids, ["chunk_id"]))


def test_values_that_are_set_are_quoted_and_may_be_none(table: LanceTable) -> None:
    table.append(rows("a", "b").to_batches())
    table.set_where("chunk_id", ["a"], {"group": "it's"})
    table.set_where("chunk_id", ["b"], {"group": None})
    assert sorted(table.read_columns(["chunk_id", "group"]).rows()) == [("a", "it's"), ("b", None)]
