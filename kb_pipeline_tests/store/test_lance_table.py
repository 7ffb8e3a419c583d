"""What the rest of the code relies on from Lance tables."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from kb_pipeline.errors import DamagedStore, LeaseLost
from kb_pipeline.store.compaction import DataFile, pieces_to_rewrite
from kb_pipeline.store.lance_table import LanceDatabase, LanceTable, sql_in

SCHEMA = pa.schema([pa.field("id", pa.string()), pa.field("group", pa.string()), pa.field("n", pa.int64())])


def rows(*ids: str, group: str = "a") -> pa.Table:
    return pa.Table.from_pylist([{"id": i, "group": group, "n": len(i)} for i in ids], schema=SCHEMA)


@pytest.fixture
def table(tmp_path: Path) -> LanceTable:
    return LanceDatabase(tmp_path).open_or_create("t", SCHEMA)


def test_rows_are_taken_in_the_order_asked_for(table: LanceTable) -> None:
    for start in range(0, 400, 100):
        table.append(rows(*(f"{n:04}" for n in range(start, start + 100))).to_batches())
    frame = table.read_columns(["id"], row_ids=True)
    wanted = random.Random(7).sample(frame.rows(), 150)
    taken = [i for part in table.take([row_id for _, row_id in wanted], ["id"], 64) for i in part["id"].to_pylist()]
    assert taken == [i for i, _ in wanted]


def test_a_filter_quotes_what_it_is_given() -> None:
    assert sql_in("id", ["a'b", "x' OR '1'='1"]) == "id IN ('a''b', 'x'' OR ''1''=''1')"


@pytest.mark.parametrize("value", ["it's", 'say "hi"', "\\", "%", "x') OR ('1'='1", "\n", "日本", "--", ";"])
def test_hostile_values_delete_only_themselves(table: LanceTable, value: str) -> None:
    table.append(rows(value, "other").to_batches())
    table.delete("id", [value])
    assert table.read_columns(["id"])["id"].to_list() == ["other"]


def test_replacing_a_group_is_one_commit_and_touches_no_other_group(table: LanceTable) -> None:
    table.append(rows("a1", "a2").to_batches())
    table.append(rows("b1", group="b").to_batches())
    before = table.version
    table.replace_group("id", rows("a2", "a3"), "group", ["a"])
    assert table.version == before + 1
    assert sorted(table.read_columns(["id"])["id"].to_list()) == ["a2", "a3", "b1"]


def test_a_part_of_the_columns_updates_and_inserts_nothing(table: LanceTable) -> None:
    table.append(rows("a", "b").to_batches())
    table.upsert("id", pa.table({"id": ["b", "new"], "n": pa.array([7, 7], pa.int64())}))
    assert sorted(table.read_columns(["id", "group", "n"]).rows()) == [("a", "a", 1), ("b", "a", 7)]


def test_a_table_that_cannot_be_opened_says_which(tmp_path: Path, table: LanceTable) -> None:
    table.append(rows("a").to_batches())
    for manifest in table.path.glob("_versions/*"):
        manifest.write_bytes(b"")
    with pytest.raises(DamagedStore, match="table t in"):
        LanceDatabase(tmp_path).open("t")


def test_a_table_of_an_earlier_release_gets_the_columns_that_it_lacks(tmp_path: Path) -> None:
    old = pa.schema([pa.field("id", pa.string(), nullable=False)])
    folder = LanceDatabase(tmp_path)
    folder.open_or_create("things", old).append(pa.table({"id": ["a"]}, schema=old).to_batches())
    grown = folder.open_or_create("things", pa.schema([*old, ("seen", pa.timestamp("us", tz="UTC"))]))
    assert grown.head(["id", "seen"], 5).to_pylist() == [{"id": "a", "seen": None}]
    assert folder.open_or_create("things", grown.schema).version == grown.version


def test_a_restored_table_has_the_rows_of_that_version_again(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("id", pa.string(), nullable=False)])
    table = LanceDatabase(tmp_path).open_or_create("things", schema)
    table.append(pa.table({"id": ["a", "b"]}, schema=schema).to_batches())
    before = table.version
    table.delete("id", ["a"])
    table.restore(before)
    assert sorted(row["id"] for row in table.head(["id"], 5).to_pylist()) == ["a", "b"]
    assert LanceDatabase(tmp_path).open("things").count() == 2


def test_a_writer_that_may_not_write_any_more_changes_nothing(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("id", pa.string(), nullable=False)])
    LanceDatabase(tmp_path).open_or_create("things", schema)

    def refuse() -> None:
        raise LeaseLost("acme/docs", "run-1")

    late = LanceDatabase(tmp_path, refuse).open("things")
    with pytest.raises(LeaseLost):
        late.append(pa.table({"id": ["a"]}, schema=schema).to_batches())
    assert LanceDatabase(tmp_path).open("things").count() == 0


def test_a_table_added_at_once_lies_in_files_that_can_be_rewritten_alone(tmp_path: Path) -> None:
    table = LanceDatabase(tmp_path).open_or_create("index_x", SCHEMA)
    table.append_many(rows(*(f"{n:05}" for n in range(6400))).to_batches(), 6400)
    assert len(list(table.path.glob("data/*.lance"))) == 32
    assert (table.count(), len(table.read_columns(["id"]).unique())) == (6400, 6400)


def test_optimizing_a_table_that_wastes_nothing_writes_nothing(table: LanceTable) -> None:
    table.append(rows(*(f"{n:03}" for n in range(300))).to_batches())
    table.delete("id", ["007"])
    before = table.version
    table.optimize()
    assert table.version == before


def test_optimizing_merges_small_commits_and_keeps_every_row(table: LanceTable) -> None:
    for n in range(12):
        table.append(rows(f"{n:02}").to_batches())
    table.optimize()
    assert len(table._dataset().get_fragments()) == 1
    assert sorted(table.read_columns(["id"])["id"]) == [f"{n:02}" for n in range(12)]


def piece(number: int, live: int, stored: int = 1_000_000) -> DataFile:
    return DataFile(number, 100, stored, live)


def test_garbage_below_its_limit_is_left_alone() -> None:
    assert pieces_to_rewrite([piece(n, 900_000) for n in range(32)])[0] == set()


def test_the_most_wasteful_files_are_rewritten_first_and_only_a_few_at_once() -> None:
    pieces = [piece(n, 1_000_000 - 15_000 * n) for n in range(32)]
    chosen, _ = pieces_to_rewrite(pieces)
    assert chosen == set(range(32 - len(chosen), 32))
    assert 0 < sum(pieces[n].live for n in chosen) <= 2_000_000


def test_a_single_large_file_is_rewritten_in_pieces_once_it_wastes_too_much() -> None:
    chosen, rows_per_piece = pieces_to_rewrite([DataFile(0, 64_000, 100_000_000, 80_000_000)])
    assert (chosen, rows_per_piece) == ({0}, 2000)


def test_small_files_are_merged_only_with_their_neighbours_and_only_when_many() -> None:
    whole, small = piece(0, 8_000_000, 8_000_000), 100_000
    few = [whole, *(piece(n, small, small) for n in range(1, 3))]
    assert pieces_to_rewrite(few)[0] == set()
    many = [whole, *(piece(n, small, small) for n in range(1, 6))]
    assert pieces_to_rewrite(many)[0] == {1, 2, 3}, "they are a whole file together; the others wait for more"
    apart = [p for n in range(5) for p in (piece(10 + n, small, small), piece(20 + n, 8_000_000, 8_000_000))]
    assert pieces_to_rewrite(apart)[0] == set()


def test_writers_of_the_same_table_at_once_lose_no_row_and_never_fail(tmp_path: Path) -> None:
    LanceDatabase(tmp_path).open_or_create("t", SCHEMA)
    barrier = threading.Barrier(4)

    def write(writer: int) -> None:
        table = LanceDatabase(tmp_path).open("t")
        barrier.wait()
        for n in range(12):
            table.append(rows(f"{writer}-{n}").to_batches())
            table.optimize()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(write, writer) for writer in range(4)]:
            done.result()
    ids = LanceDatabase(tmp_path).open("t").read_columns(["id"])["id"].to_list()
    assert sorted(ids) == sorted(f"{writer}-{n}" for writer in range(4) for n in range(12))


def test_two_who_rewrite_the_same_files_at_once_both_go_on(table: LanceTable, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(8):
        table.append(rows(f"{n}").to_batches())
    other = LanceDatabase(table.path.parent).open("t")
    stale = table._dataset()
    monkeypatch.setattr(table, "_dataset", lambda: stale)
    other.optimize()
    table.optimize()
    assert sorted(table.read_columns(["id"])["id"]) == [f"{n}" for n in range(8)]


def test_other_errors_of_optimizing_are_not_hidden(table: LanceTable, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(table, "_dataset", broken)
    with pytest.raises(OSError, match="No space"):
        table.optimize()


def test_a_dropped_table_is_gone_even_if_removing_its_files_was_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = LanceDatabase(tmp_path)
    folder.open_or_create("index_a", SCHEMA).append(rows("a").to_batches())
    folder.open_or_create("index_b", SCHEMA)
    monkeypatch.setattr("kb_pipeline.store.lance_table.shutil.rmtree", lambda *args, **options: None)
    folder.drop("index_a")
    monkeypatch.undo()
    assert folder.names("index_") == ["index_b"]
    assert folder.open_or_create("index_a", SCHEMA).count() == 0
    folder.drop("index_b")
    assert [path.name for path in tmp_path.iterdir()] == ["index_a.lance"]
