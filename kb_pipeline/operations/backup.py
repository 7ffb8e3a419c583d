"""Copies control plane and data as they were at one moment, while refreshes go on.

First the control plane, in one snapshot; then hard links to the files of the versions that it names, which takes
seconds and outlives whatever is removed meanwhile (what is superseded stays for the readers' grace); then the copying.
Raw segments are linked before tables: an erasure removes from tables first, so what it has begun on is noticed there.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, select

from kb_pipeline.control.db.dump import dump_tables
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Version
from kb_pipeline.control.db.schema_revision import HEAD
from kb_pipeline.control.kbs.versions import SEARCHABLE
from kb_pipeline.errors import DamagedStore, KbError, UsageError
from kb_pipeline.failpoints import failpoint
from kb_pipeline.model import KbKey, Record
from kb_pipeline.operations.backup_manifest import FILES, FORMAT, BackedUpFile, BackupManifest, FileList
from kb_pipeline.settings import Settings
from kb_pipeline.store.durable_files import fsync_path, fsync_tree
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.lance_database import LanceDatabase
from kb_pipeline.store.manifest import Manifest, manifest_path
from kb_pipeline.store.paths import KbPaths, staging_folder
from kb_pipeline.store.stage_tables import VECTORS_PREFIX
from kb_pipeline.version import __version__

LEFT_OUT = (
    "secret keys and the environment: keep them elsewhere, a backup that holds its own keys protects nothing",
    "Dagster's history of runs and events: it begins anew",
    "logs, models (made again from the package), and what unfinished fetches have in their journals",
)
_WITH_DATA = (*SEARCHABLE, "candidate", "held")
_TRIES = 5
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Backup(Record):
    """A backup that was made."""

    directory: Path
    made_at: datetime
    """The moment as of which it is."""
    versions: int
    """How many versions it holds."""
    files: int
    bytes: int
    rows: int
    """Of the control plane."""
    left_out: tuple[str, ...]
    """What is not part of it, a sentence each."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """A version that the snapshot names, with its data."""

    key: KbKey
    manifest: Manifest


def make_backup(settings: Settings, db: Database, directory: Path) -> Backup:
    """Write a backup, which appears under its name when all of it is on disk, or not at all.

    Raises:
        UsageError: the directory exists, or another backup of this home is being made.
        DamagedStore: a version that is kept cannot be read.
    """
    directory = directory.expanduser().resolve()
    if directory.exists():
        raise UsageError(f"{directory} exists; name a directory that does not exist yet")
    with _one_at_a_time(settings):
        beside = directory.with_name(f".{directory.name}.part")
        try:
            directory.parent.mkdir(parents=True, exist_ok=True)
            manifest = _make(settings, db, beside)
            fsync_tree(beside)
            failpoint("backup.written")
            beside.rename(directory)
            fsync_path(directory.parent)
        except OSError as error:
            raise KbError(f"cannot back up to {directory}: {error}; nothing was left there") from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)
            shutil.rmtree(staging_folder(settings.data_dir), ignore_errors=True)
    return Backup(
        directory=directory,
        made_at=manifest.made_at,
        versions=len(manifest.versions),
        files=manifest.files.count,
        bytes=manifest.files.bytes,
        rows=sum(manifest.rows.values()),
        left_out=LEFT_OUT,
    )


def remove_abandoned(settings: Settings) -> None:
    """Remove what a killed backup left in the staging folder, unless a backup is being made now."""
    try:
        with _one_at_a_time(settings):
            shutil.rmtree(staging_folder(settings.data_dir), ignore_errors=True)
    except UsageError:
        return


@contextmanager
def _one_at_a_time(settings: Settings) -> Iterator[None]:
    settings.home.mkdir(parents=True, exist_ok=True)
    with (settings.home / "backup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError("another backup of this home is being made; wait for it") from None
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # closing would not do while a child is being forked: it has it open too


def _make(settings: Settings, db: Database, folder: Path) -> BackupManifest:
    tables, pinned, made_at = _snapshot(settings, db, folder)
    failpoint("backup.linked")
    staging = staging_folder(settings.data_dir)
    with (folder / FILES).open("w", encoding="utf-8") as listing:
        count = stored = 0
        for place, path in [*_beneath(folder / "control", "control"), *_beneath(staging, "data")]:
            target = folder / place
            target.parent.mkdir(parents=True, exist_ok=True)
            size, digest = copy_hashed(path, None if target == path else target)
            listing.write(json.dumps(BackedUpFile(place, size, digest).as_json()) + "\n")
            count, stored = count + 1, stored + size
            failpoint("backup.file")
    manifest = BackupManifest(
        format=FORMAT,
        made_at=made_at,
        release=__version__,
        schema_revision=HEAD,
        rows=tables,
        versions=tuple(sorted(f"{pin.key} {pin.manifest.version}" for pin in pinned)),
        files=FileList(count, stored, copy_hashed(folder / FILES, None)[1]),
    )
    manifest.write(folder)
    return manifest


def _snapshot(settings: Settings, db: Database, folder: Path) -> tuple[dict[str, int], list[Pinned], datetime]:
    """Dump the control plane and link all files that it names; try again if one of them was erased meanwhile."""
    for attempt in range(1, _TRIES + 1):
        shutil.rmtree(folder, ignore_errors=True)
        made_at = datetime.now(UTC)
        with db.snapshot() as connection:
            tables = dump_tables(connection, folder / "control")
            pinned = list(_pinned(connection))
        failpoint("backup.snapshot")
        try:
            _link_all(settings, pinned)
        except (DamagedStore, FileNotFoundError) as error:
            if attempt == _TRIES:
                raise DamagedStore("a version that is kept", str(error)) from error
        else:
            return tables, pinned, made_at
    raise AssertionError("unreachable")


def _pinned(connection: Connection) -> Iterator[Pinned]:
    query = select(Version.tenant, Version.kb, Version.version, Version.manifest)
    query = query.where(Version.status.in_(_WITH_DATA)).order_by(Version.tenant, Version.kb, Version.version)
    for tenant, kb, number, manifest in connection.execute(query):
        key = KbKey(tenant, kb)
        yield Pinned(key, Manifest.from_json(key, number, manifest))


def _link_all(settings: Settings, pinned: Sequence[Pinned]) -> None:
    staging = staging_folder(settings.data_dir)
    shutil.rmtree(staging, ignore_errors=True)
    by_kb: dict[KbKey, list[Manifest]] = {}
    for pin in pinned:
        by_kb.setdefault(pin.key, []).append(pin.manifest)
    for key, manifests in by_kb.items():
        store, to = KbStore(KbPaths(settings.data_dir, key)), KbPaths(staging, key)
        _link_kb(store, to, manifests)
    for key in {key.tenant: key for key in by_kb}.values():
        _link_vectors(KbPaths(settings.data_dir, key), KbPaths(staging, key))


def _link_kb(store: KbStore, to: KbPaths, manifests: Sequence[Manifest]) -> None:
    paths = store.paths
    for path in paths.raw.glob("*.parquet"):
        _link(path, to.raw / path.name)
    pins = {(pin.name, pin.version) for manifest in manifests for pin in manifest.tables.values()}
    for name, version in sorted(pins):
        _link_table(store.tables, to.lance, name, version)
    for manifest in manifests:
        _link(manifest_path(paths, manifest.version), manifest_path(to, manifest.version))
        for name in {pin.name for pin in manifest.tables.values()}:
            tag = f"{name}.lance/_refs/tags/v{manifest.version}.json"
            _link(paths.lance / tag, to.lance / tag)
    for part in ("site_notes", "checks"):  # what saves the next refresh work; each file is replaced whole
        for path in (paths.root / part).rglob("*"):
            if path.is_file() and not path.name.endswith(".tmp"):
                _link(path, to.root / path.relative_to(paths.root))


def _link_vectors(paths: KbPaths, to: KbPaths) -> None:
    """Link the embedding cache as it is, which covers the texts of every version and only grows."""
    if paths.vectors.exists():
        folder = LanceDatabase(paths.vectors)
        for name in folder.names(VECTORS_PREFIX):
            _link_table(folder, to.vectors, name, None)


def _link_table(folder: LanceDatabase, to: Path, name: str, version: int | None) -> None:
    table = folder.open(name, version)
    for file in table.maintenance.files():
        _link(table.path / file, to / table.path.name / file)


def _link(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    if not to.exists():
        os.link(path, to)


def _beneath(root: Path, name: str) -> list[tuple[str, Path]]:
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    return [(f"{name}/{path.relative_to(root)}", path) for path in paths]


def copy_hashed(path: Path, to: Path | None) -> tuple[int, str]:
    """Copy a file, or only read it; returns its bytes and SHA-256."""
    state, size = hashlib.sha256(), 0
    with path.open("rb") as source, (to or Path(os.devnull)).open("wb") as target:
        while chunk := source.read(_CHUNK):
            state.update(chunk)
            target.write(chunk)
            size += len(chunk)
    return size, state.hexdigest()
