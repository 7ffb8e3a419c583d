"""What can be done with a table beside its rows: indexes, tags, and the files beneath."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from kb_pipeline.errors import DamagedStore, LeaseLost
from kb_pipeline.store.lance_database import LanceDatabase
from kb_pipeline.store.table import LanceTable

pytestmark = pytest.mark.upgrade("lance")

SCHEMA = pa.schema(
    [
        pa.field("chunk_id", pa.string()),
        pa.field("words", pa.string()),
        pa.field("language", pa.string()),
        pa.field("vector", pa.list_(pa.float32(), 4)),
    ]
)
NOW = timedelta(0)


def rows(words: dict[str, str], language: str = "en") -> Iterable[pa.RecordBatch]:
    """One row an id; its vector points where its number does."""
    table = pa.Table.from_pylist(
        [
            {"chunk_id": name, "words": text, "language": language, "vector": np.eye(4)[n % 4].tolist()}
            for n, (name, text) in enumerate(words.items())
        ],
        schema=SCHEMA,
    )
    yield from table.to_batches()


@pytest.fixture
def table(tmp_path: Path) -> LanceTable:
    table = LanceDatabase(tmp_path).open_or_create("index_x", SCHEMA)
    table.append(rows({"a": "ripe pears", "b": "green apples", "c": "Äpfel und Birnen", "d": "天気"}))
    return table


def test_words_are_found_in_any_script_case_and_accent_once_there_is_an_index(table: LanceTable) -> None:
    assert table.indexes.columns() == set()
    table.indexes.create_text_index("words")
    assert table.indexes.columns() == {"words"}
    for query, found in (("PEARS", "a"), ("apfel", "c"), ("天気", "d")):
        assert table.indexes.matching(query, {"words": 1.0}, 5, ["chunk_id"], None)["chunk_id"].to_pylist() == [found]


def test_the_nearest_rows_come_with_their_distance_and_a_filter_is_applied_before(table: LanceTable) -> None:
    table.append(rows({"e": "Birne"}, "de"))
    found = table.indexes.nearest("vector", np.array([1, 0.1, 0, 0], np.float32), 2, ["chunk_id"], "language = 'en'")
    assert found["chunk_id"].to_pylist() == ["a", "b"]
    assert found["_distance"].to_pylist() == sorted(found["_distance"].to_pylist())


def test_new_rows_are_unindexed_until_the_indexes_are_updated(table: LanceTable) -> None:
    table.indexes.create_text_index("words")
    table.append(rows({"e": "blue plums"}))
    assert table.indexes.unindexed_rows() == 1
    table.optimize()
    assert table.indexes.unindexed_rows() == 0
    assert table.indexes.matching("plums", {"words": 1.0}, 5, ["chunk_id"], None).num_rows == 1


def test_dropped_indexes_are_gone(table: LanceTable) -> None:
    table.indexes.create_text_index("words")
    table.indexes.drop()
    assert (table.indexes.columns(), table.indexes.unindexed_rows()) == (set(), 0)


def test_a_tag_keeps_its_version_through_cleanup_and_can_be_moved(table: LanceTable) -> None:
    first = table.version
    table.tags.put("v1", first)
    table.append(rows({"e": "plums"}))
    second = table.version
    table.append(rows({"f": "quinces"}))
    table.maintenance.cleanup(NOW)
    folder = LanceDatabase(table.path.parent)
    assert folder.open("index_x", first).count() == 4
    with pytest.raises(DamagedStore):
        folder.open("index_x", second)
    table.tags.put("v1", table.version)
    assert table.tags.versions() == {"v1": table.version}
    table.tags.remove("v1")
    table.tags.remove("never put")
    assert table.tags.versions() == {}


def test_versions_that_neither_tag_nor_head_needs_are_counted(table: LanceTable) -> None:
    table.maintenance.cleanup(NOW)
    assert table.maintenance.untagged_versions() == 0
    table.append(rows({"e": "plums"}))
    assert table.maintenance.untagged_versions() == 1
    table.tags.put("v1", table.version - 1)
    assert table.maintenance.untagged_versions() == 0


def test_deleted_rows_lie_in_the_files_until_they_are_rewritten(table: LanceTable) -> None:
    table.delete("chunk_id", ["a"])
    assert table.maintenance.deleted_rows() == 1
    table.maintenance.rewrite_deleted()
    assert (table.maintenance.deleted_rows(), table.count()) == (0, 3)


def test_the_files_listed_are_all_that_the_version_needs(table: LanceTable, tmp_path: Path) -> None:
    table.indexes.create_text_index("words")
    table.delete("chunk_id", ["b"])
    listed = table.maintenance.files()
    copy = tmp_path / "copy"
    for name in listed:
        (copy / table.path.name / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / table.path.name / name).write_bytes((table.path / name).read_bytes())
    opened = LanceDatabase(copy).open("index_x")
    assert (opened.version, sorted(opened.read_columns(["chunk_id"])["chunk_id"])) == (table.version, ["a", "c", "d"])
    assert opened.indexes.matching("pears", {"words": 1.0}, 5, ["chunk_id"], None)["chunk_id"].to_pylist() == ["a"]


def test_a_missing_index_folder_is_damage(table: LanceTable) -> None:
    table.indexes.create_text_index("words")
    (folder,) = (table.path / "_indices").iterdir()
    folder.rename(table.path / "elsewhere")
    with pytest.raises(DamagedStore, match="_indices"):
        table.maintenance.files()


def test_who_lost_the_lease_can_do_nothing_with_any_part(table: LanceTable) -> None:
    def refuse() -> None:
        raise LeaseLost("acme/docs", "run-1")

    late = LanceDatabase(table.path.parent, refuse).open("index_x")
    late_writes: list[Callable[[], object]] = [
        lambda: late.indexes.create_text_index("words"),
        lambda: late.tags.put("v1", late.version),
        lambda: late.maintenance.cleanup(NOW),
        lambda: late.delete("chunk_id", ["a"]),
        lambda: late.restore(1),
        lambda: late.clear(),
    ]
    for write in late_writes:
        with pytest.raises(LeaseLost):
            write()
    assert (table.count(), table.tags.versions(), table.indexes.columns()) == (4, {}, set())
