"""The files of a backup that describe it: its manifest, and the list of what it holds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath

from kb_pipeline.control.db.dump import read_rows
from kb_pipeline.errors import DamagedBackup, UsageError
from kb_pipeline.json_fields import JsonFields
from kb_pipeline.model import Record

FORMAT = 1
MANIFEST = "manifest.json"
FILES = "files.jsonl"
_PARTS = ("data", "control")


@dataclass(frozen=True, slots=True)
class BackedUpFile(Record):
    """A file of a backup."""

    path: str
    """Within the backup, with slashes."""
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FileList(Record):
    """What a backup's list of files amounts to."""

    count: int
    bytes: int
    """Of all files together."""
    sha256: str
    """Of the list itself."""


@dataclass(frozen=True, slots=True)
class BackupManifest(Record):
    """What a backup holds, written last."""

    format: int
    made_at: datetime
    """The moment as of which it is."""
    release: str
    """Of kb_pipeline, which made it."""
    schema_revision: str
    """Of the control plane."""
    rows: Mapping[str, int]
    """By table of the control plane."""
    versions: tuple[str, ...]
    """`tenant/kb number`, sorted."""
    files: FileList

    def write(self, directory: Path) -> None:
        """Write the manifest into the backup's directory."""
        (directory / MANIFEST).write_text(json.dumps(self.as_json(), indent=1), encoding="utf-8")


def read_manifest(directory: Path) -> BackupManifest:
    """Read the manifest of a backup.

    Raises:
        UsageError: there is no backup, or a newer release made it.
        DamagedBackup: the manifest cannot be read.
    """
    path = directory / MANIFEST
    if not path.is_file():
        raise UsageError(f"{directory} is no backup: it has no {MANIFEST}")
    try:
        fields = JsonFields(json.loads(path.read_bytes()))
        number = fields.number("format")
        manifest = _read(fields) if number == FORMAT else None
    except ValueError as error:
        raise DamagedBackup(path, f"cannot be read: {error}") from None
    if manifest is None:
        raise UsageError(f"{path}: format {number} is newer than this release; restore it with its own")
    return manifest


def _read(fields: JsonFields) -> BackupManifest:
    files = fields.inner("files")
    return BackupManifest(
        format=FORMAT,
        made_at=fields.moment("made_at"),
        release=fields.text("release"),
        schema_revision=fields.text("schema_revision"),
        rows=fields.numbers("rows"),
        versions=fields.text_list("versions"),
        files=FileList(files.number("count"), files.number("bytes"), files.text("sha256")),
    )


def read_file_list(directory: Path) -> Iterator[BackedUpFile]:
    """Yield the files of a backup; raises DamagedBackup for a list that names what is not part of one."""
    listing = directory / FILES
    for row in read_rows(listing):
        path = PurePosixPath(row["path"])
        if path.is_absolute() or ".." in path.parts or path.parts[0] not in _PARTS:
            raise DamagedBackup(listing, f"names {row['path']!r}")
        yield BackedUpFile(row["path"], row["bytes"], row["sha256"])
