"""Files that appear whole or not at all, and folders that are gone for good."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kb_pipeline.store.durable_files import (
    atomic_write,
    files_beneath,
    folder_bytes,
    fsync_tree,
    move_to_quarantine,
    remove_folder,
    write_durably,
)


def tree(folder: Path) -> Path:
    """Three files, seven bytes."""
    (folder / "inner").mkdir(parents=True)
    (folder / "a").write_bytes(b"1")
    (folder / "b").write_bytes(b"22")
    (folder / "inner/c").write_bytes(b"4444")
    return folder


def test_a_file_is_written_with_the_folders_above_it_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a/b/c.json"
    write_durably(path, b"old")
    write_durably(path, b"new")
    assert path.read_bytes() == b"new"
    assert [each.name for each in path.parent.iterdir()] == ["c.json"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write_half() -> None:
        with atomic_write(path, tmp_path / "file.tmp") as file:
            file.write(b"half of the n")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write_half()
    assert path.read_bytes() == b"old"


def test_a_removed_folder_is_gone_with_what_a_killed_removal_had_left(tmp_path: Path) -> None:
    folder = tree(tmp_path / "kb")
    tree(tmp_path / ".leaving-kb")
    assert len(files_beneath(folder)) == 6
    remove_folder(folder)
    assert list(tmp_path.iterdir()) == []
    remove_folder(folder)
    assert files_beneath(folder) == []


def test_only_files_changed_since_are_forced_to_disk(tmp_path: Path) -> None:
    folder = tree(tmp_path / "kb")
    os.utime(folder / "a", ns=(1, 1))
    assert (fsync_tree(folder), fsync_tree(folder, since_ns=2)) == (3, 2)


def test_the_bytes_of_a_folder(tmp_path: Path) -> None:
    assert (folder_bytes(tree(tmp_path / "kb")), folder_bytes(tmp_path / "nowhere")) == (7, 0)


def test_files_of_one_name_stay_apart_in_the_quarantine(tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        (tmp_path / "damaged.parquet").write_bytes(content)
        move_to_quarantine(tmp_path / "damaged.parquet", tmp_path / "quarantine")
    assert {path.read_bytes() for path in (tmp_path / "quarantine").iterdir()} == {b"first", b"second"}
    assert not (tmp_path / "damaged.parquet").exists()
