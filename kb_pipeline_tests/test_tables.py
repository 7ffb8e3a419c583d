"""What the rest of the code relies on from Lance tables."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pytest

from kb_pipeline.errors import DamagedStore, LeaseLost
from kb_pipeline.tables import LanceFolder, LanceTable, sql_in

SCHEMA = pa.schema([pa.field("id", pa.string()), pa.field("group", pa.string()), pa.field("n", pa.int64())])


def rows(*ids: str, group: str = "a") -> pa.Table:
    return pa.Table.from_pylist([{"id": i, "group": group, "n": len(i)} for i in ids], schema=SCHEMA)


@pytest.fixture
def table(tmp_path: Path) -> LanceTable:
    return LanceFolder(tmp_path).open_or_create("t", SCHEMA)


def test_rows_are_taken_in_the_order_asked_for(table: LanceTable) -> None:
    for start in range(0, 400, 100):
        table.append(rows(*(f"{n:04}" for n in range(start, start + 100))).to_batches())
    frame = table.narrow(["id"], row_ids=True)
    wanted = random.Random(7).sample(frame.rows(), 150)
    taken = [i for part in table.take([row_id for _, row_id in wanted], ["id"], 64) for i in part["id"].to_pylist()]
    assert taken == [i for i, _ in wanted]


def test_a_filter_quotes_what_it_is_given() -> None:
    assert sql_in("id", ["a'b", "x' OR '1'='1"]) == "id IN ('a''b', 'x'' OR ''1''=''1')"


@pytest.mark.parametrize("value", ["it's", 'say "hi"', "\\", "%", "x') OR ('1'='1", "\n", "日本", "--", ";"])
def test_hostile_values_delete_only_themselves(table: LanceTable, value: str) -> None:
    table.append(rows(value, "other").to_batches())
    table.delete("id", [value])
    assert table.narrow(["id"])["id"].to_list() == ["other"]


def test_replacing_a_group_is_one_commit_and_touches_no_other_group(table: LanceTable) -> None:
    table.append(rows("a1", "a2").to_batches())
    table.append(rows("b1", group="b").to_batches())
    before = table.version
    table.replace_group("id", rows("a2", "a3"), "group", ["a"])
    assert table.version == before + 1
    assert sorted(table.narrow(["id"])["id"].to_list()) == ["a2", "a3", "b1"]


def test_a_part_of_the_columns_updates_and_inserts_nothing(table: LanceTable) -> None:
    table.append(rows("a", "b").to_batches())
    table.upsert("id", pa.table({"id": ["b", "new"], "n": pa.array([7, 7], pa.int64())}))
    assert sorted(table.narrow(["id", "group", "n"]).rows()) == [("a", "a", 1), ("b", "a", 7)]


def test_a_table_that_cannot_be_opened_says_which(tmp_path: Path, table: LanceTable) -> None:
    table.append(rows("a").to_batches())
    for manifest in table.path.glob("_versions/*"):
        manifest.write_bytes(b"")
    with pytest.raises(DamagedStore, match="table t in"):
        LanceFolder(tmp_path).open("t")


def test_a_table_of_an_earlier_release_gets_the_columns_that_it_lacks(tmp_path: Path) -> None:
    old = pa.schema([pa.field("id", pa.string(), nullable=False)])
    folder = LanceFolder(tmp_path)
    folder.open_or_create("things", old).append(pa.table({"id": ["a"]}, schema=old).to_batches())
    grown = folder.open_or_create("things", pa.schema([*old, ("seen", pa.timestamp("us", tz="UTC"))]))
    assert grown.head(["id", "seen"], 5) == [{"id": "a", "seen": None}]
    assert folder.open_or_create("things", grown.schema).version == grown.version


def test_a_restored_table_has_the_rows_of_that_version_again(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("id", pa.string(), nullable=False)])
    table = LanceFolder(tmp_path).open_or_create("things", schema)
    table.append(pa.table({"id": ["a", "b"]}, schema=schema).to_batches())
    before = table.version
    table.delete("id", ["a"])
    table.restore(before)
    assert sorted(row["id"] for row in table.head(["id"], 5)) == ["a", "b"]
    assert LanceFolder(tmp_path).open("things").count() == 2


def test_a_writer_that_may_not_write_any_more_changes_nothing(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("id", pa.string(), nullable=False)])
    LanceFolder(tmp_path).open_or_create("things", schema)

    def refuse() -> None:
        raise LeaseLost("acme/docs", "run-1")

    late = LanceFolder(tmp_path, refuse).open("things")
    with pytest.raises(LeaseLost):
        late.append(pa.table({"id": ["a"]}, schema=schema).to_batches())
    assert LanceFolder(tmp_path).open("things").count() == 0
