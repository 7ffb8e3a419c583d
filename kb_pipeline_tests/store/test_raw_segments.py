"""Raw segments: committed, read by place, redacted, and set aside when damaged."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kb_pipeline.errors import DamagedStore
from kb_pipeline.model import KbKey
from kb_pipeline.store.paths import KbPaths
from kb_pipeline.store.raw_segments import (
    RawBody,
    commit_segments,
    locate_bodies,
    quarantine_damaged,
    read_bodies,
    read_segments,
    redact_rows,
    remove_leftovers,
    segments_with_key,
)

AT = datetime(2026, 11, 21, 8, tzinfo=UTC)


def write(folder: Path, name: str, **bodies: bytes | None) -> Path:
    """Write a segment with one row a key; a row without bytes failed."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"key": f"/{key}", "url": f"http://x.example/{key}", "content_type": "text/html", "body": body,
         "sha256": None if body is None else body.hex(), "fetched_at": AT, "depth": 1, "outcome": "fetched"}
        for key, body in bodies.items()
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), folder / name)
    return folder / name


def test_bodies_are_read_by_segment_and_position(tmp_path: Path) -> None:
    write(tmp_path, "one.parquet", a=b"A", b=b"B", c=b"C")
    write(tmp_path, "two.parquet", d=b"D")
    found = list(read_bodies(tmp_path, {"two.parquet": [0], "one.parquet": [2, 0]}))
    assert [(raw.segment, raw.position, raw.body) for raw in found] == [
        ("two.parquet", 0, b"D"), ("one.parquet", 0, b"A"), ("one.parquet", 2, b"C")
    ]  # fmt: skip
    assert found[0] == RawBody("two.parquet", 0, "/d", "http://x.example/d", "text/html", b"D".hex(), b"D", AT)


def test_everything_with_bytes_of_a_key_is_located(tmp_path: Path) -> None:
    write(tmp_path, "one.parquet", a=b"old", b=b"B")
    write(tmp_path, "two.parquet", b=b"B", a=None)
    write(tmp_path, "three.parquet", b=b"B", a=b"new")
    assert list(locate_bodies(tmp_path, "/a")) == [
        ("one.parquet", 0, b"old".hex()),
        ("three.parquet", 1, b"new".hex()),
    ]
    assert segments_with_key(tmp_path, "/a") == {"one.parquet": [0], "three.parquet": [1]}


def test_redacted_rows_hold_nothing_and_the_others_stay_in_place(tmp_path: Path) -> None:
    segment = write(tmp_path, "one.parquet", **{f"k{n}": f"body {n}".encode() for n in range(20)})
    assert redact_rows(segment, [3, 17]) == 2
    rows = pq.read_table(segment).to_pylist()
    assert [n for n, row in enumerate(rows) if row["body"] is None] == [3, 17]
    assert (rows[3]["key"], rows[3]["outcome"], rows[3]["sha256"]) == ("", "erased", None)
    assert rows[18]["body"] == b"body 18"
    assert b"body 17" not in segment.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["one.parquet"]


def test_the_wanted_segments_of_a_fetch_are_committed_and_doing_it_again_harms_nothing(tmp_path: Path) -> None:
    journal, raw = tmp_path / "journal", tmp_path / "raw"
    for name in ("1.parquet", "2.parquet"):
        write(journal, name, a=b"A")
    for _ in range(2):
        commit_segments(journal, raw, "site", {"site-1.parquet"})
    assert [path.name for path in raw.iterdir()] == ["site-1.parquet"]
    assert not journal.exists()


def test_a_damaged_segment_is_an_error_to_readers_and_moves_to_the_quarantine(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write(raw, "sound.parquet", a=b"A" * 5000)
    damaged = write(raw, "damaged.parquet", b=b"B" * 5000)
    damaged.write_bytes(damaged.read_bytes()[:-20])
    with pytest.raises(DamagedStore, match=r"damaged\.parquet"):
        list(read_segments(raw, ["sound.parquet", "damaged.parquet"], ["key"]))
    assert quarantine_damaged(raw, tmp_path / "quarantine") == ["damaged.parquet"]
    assert [path.name for path in raw.iterdir()] == ["sound.parquet"]
    assert len(list((tmp_path / "quarantine").iterdir())) == 1


def test_leftovers_are_named_by_place_and_removed(tmp_path: Path) -> None:
    paths = KbPaths(tmp_path, KbKey("acme", "docs"))
    write(paths.journal("site"), "1.parquet", a=b"A")
    write(paths.raw, "kept.parquet", a=b"A")
    (paths.raw / "torn.tmp").write_bytes(b"half")
    paths.quarantine.mkdir()
    (paths.quarantine / "damaged").write_bytes(b"x")
    (paths.lance / ".dropped-index_a").mkdir(parents=True)
    assert remove_leftovers(paths) == {
        "unfinished fetches": ["journal/site/1.parquet"],
        "quarantine": ["quarantine/damaged"],
        "unfinished files": ["raw/torn.tmp"],
        "tables half removed": ["lance/.dropped-index_a"],
    }
    assert all(not found for found in remove_leftovers(paths).values())
    assert (paths.raw / "kept.parquet").exists()
