"""The manifest of a backup is read in the words that backups of earlier releases have, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kb_pipeline.errors import DamagedBackup, UsageError
from kb_pipeline.operations.backup_manifest import FILES, MANIFEST, BackedUpFile, read_file_list, read_manifest

STORED: dict[str, Any] = {
    "format": 1,
    "made_at": "2026-11-01T10:00:00.250000+00:00",
    "release": "0.9.0",
    "schema_revision": "0007",
    "rows": {"kbs": 2, "versions": 3},
    "versions": ["acme/docs 1", "acme/docs 2"],
    "files": {"count": 4, "bytes": 1200, "sha256": "ab"},
}


def write(directory: Path, value: object) -> None:
    (directory / MANIFEST).write_text(json.dumps(value))


def test_a_stored_manifest_is_written_as_it_was_read(tmp_path: Path) -> None:
    write(tmp_path, STORED)
    manifest = read_manifest(tmp_path)
    assert manifest.as_json() == STORED
    manifest.write(tmp_path)
    assert read_manifest(tmp_path) == manifest


@pytest.mark.parametrize("change", [{"rows": [1]}, {"made_at": "today"}, {"files": {"count": 1}}, {"format": "one"}])
def test_a_damaged_manifest_is_refused_by_its_path(tmp_path: Path, change: dict[str, Any]) -> None:
    write(tmp_path, STORED | change)
    with pytest.raises(DamagedBackup, match=MANIFEST):
        read_manifest(tmp_path)


def test_no_manifest_and_one_of_a_newer_release_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no backup"):
        read_manifest(tmp_path)
    write(tmp_path, {"format": 2})
    with pytest.raises(UsageError, match="format 2 is newer"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("path", ["/etc/passwd", "data/../../x", "models/x"])
def test_a_list_that_names_what_is_not_part_of_a_backup_is_refused(tmp_path: Path, path: str) -> None:
    fine = {"path": "data/acme/x", "bytes": 1, "sha256": "ab"}
    lines = [json.dumps(each) for each in (fine, fine | {"path": path})]
    (tmp_path / FILES).write_text("\n".join(lines) + "\n")
    files = read_file_list(tmp_path)
    assert next(files) == BackedUpFile("data/acme/x", 1, "ab")
    with pytest.raises(DamagedBackup, match="names"):
        next(files)
