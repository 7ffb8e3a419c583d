"""Puts a backup into an empty home: checksums first, then the data, then the control plane, which is the switch."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, inspect, select, text
from sqlalchemy.engine import make_url

from kb_pipeline.control.db.dump import load_tables, read_rows
from kb_pipeline.control.db.engine import open_engine
from kb_pipeline.control.db.models import Base, FlagChanges
from kb_pipeline.errors import DamagedBackup, DamagedStore, UsageError
from kb_pipeline.failpoints import failpoint
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.index.search import search_version
from kb_pipeline.model import KbKey, Record
from kb_pipeline.operations.backup import LEFT_OUT, copy_hashed
from kb_pipeline.operations.backup_manifest import FILES, BackupManifest, read_file_list, read_manifest
from kb_pipeline.settings import Settings
from kb_pipeline.store.durable_files import fsync_path, fsync_tree, write_durably
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.manifest import Manifest
from kb_pipeline.store.paths import KbPaths

_MARKER = ".restoring"
"""A file in a home into which a restore has begun: the next restore removes what that one left and begins anew."""
_HARMLESS = frozenset({_MARKER, "models", "backup.lock"})
_NEVER_EMPTY = frozenset({FlagChanges.__tablename__})
"""Tables whose rows the migration that makes them inserts."""


@dataclass(frozen=True, slots=True)
class Restoration(Record):
    """A home that was restored from a backup."""

    home: Path
    made_at: datetime
    """The moment as of which the backup is."""
    rows: int
    """Of the control plane."""
    files: int
    live_versions: tuple[str, ...]
    """`tenant/kb number` of each live version; each was searched once."""
    left_out: tuple[str, ...]
    """What is not part of a backup, a sentence each."""


def restore_backup(settings: Settings, directory: Path) -> Restoration:
    """Make the home what the backup holds; if the call is killed, the same call begins anew.

    Raises:
        UsageError: the home is not empty, or there is no backup.
        DamagedBackup: a file is missing or not what was written; it is named.
        SchemaTooNew: a newer release made the backup.
    """
    directory = directory.expanduser().resolve()
    manifest = read_manifest(directory)
    if not _is_done(settings, manifest):
        _put_in_place(settings, directory, manifest)
    shutil.rmtree(_staging(settings), ignore_errors=True)
    (settings.home / _MARKER).unlink()
    return Restoration(
        home=settings.home,
        made_at=manifest.made_at,
        rows=sum(manifest.rows.values()),
        files=manifest.files.count,
        live_versions=tuple(f"{live.kb} {live.version}" for live in _live_versions(directory)),
        left_out=LEFT_OUT,
    )


def _put_in_place(settings: Settings, directory: Path, manifest: BackupManifest) -> None:
    engine = open_engine(settings.database_url)
    staged = _staging(settings)
    try:
        _copy_verified(directory, staged, manifest)
        failpoint("restore.copied")
        staged.mkdir(parents=True, exist_ok=True)
        fsync_tree(staged)
        settings.data_dir.parent.mkdir(parents=True, exist_ok=True)
        (staged / "data").mkdir(exist_ok=True)
        (staged / "data").rename(settings.data_dir)
        fsync_path(settings.data_dir.parent)
        failpoint("restore.data")
        for live in _live_versions(directory):
            _search_once(settings, live)
        load_tables(engine, directory / "control", manifest.schema_revision, _end_runs)
        failpoint("restore.tables")
    finally:
        engine.dispose()
        shutil.rmtree(staged, ignore_errors=True)


def _staging(settings: Settings) -> Path:
    """Beside the data, where it can be renamed into place."""
    return settings.data_dir.with_name(f"{_MARKER}-{settings.data_dir.name}")


def _is_done(settings: Settings, manifest: BackupManifest) -> bool:
    """Return whether the home was restored from this backup before; else check that it is empty, and mark it.

    The control plane is filled last, in one transaction: a home that is marked and has rows was restored before. What
    an interrupted restore left is removed.

    Raises:
        UsageError: the home holds something else.
    """
    marker, backup = settings.home / _MARKER, manifest.files.sha256.encode()
    engine = open_engine(settings.database_url)
    table = _first_full_table(engine)
    engine.dispose()
    if marker.exists() and marker.read_bytes() == backup and table:
        return True
    if table:
        remedy = "name an empty database in KB_DATABASE_URL" if settings.is_postgres else "name another --into"
        raise UsageError(f"the control plane is not empty: it has rows in {table}; nothing was changed, {remedy}")
    if marker.exists():
        shutil.rmtree(settings.data_dir, ignore_errors=True)
        _remove_sqlite_files(settings)
    else:
        _refuse_files(settings)
    write_durably(marker, backup)
    failpoint("restore.begun")
    return False


def _remove_sqlite_files(settings: Settings) -> None:
    """Remove SQLite's files, whose schema may be newer than the backup's; Postgres is migrated from where it is."""
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite" and url.database:
        for end in ("", "-wal", "-shm"):
            Path(url.database + end).unlink(missing_ok=True)


def _refuse_files(settings: Settings) -> None:
    for folder in (settings.home, settings.data_dir):
        found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        # An empty control plane and an empty folder for data do not count.
        extra = [name for name in found if name not in _HARMLESS and not name.startswith("control.db")]
        extra = [name for name in extra if any((folder / name).rglob("*")) or (folder / name).is_file()]
        if extra:
            raise UsageError(f"{folder} is not empty (it has {extra[0]}) and was left as it is; name another --into")


def _first_full_table(engine: Engine) -> str | None:
    present = set(inspect(engine).get_table_names()) - _NEVER_EMPTY
    with engine.connect() as connection:
        for table in Base.metadata.sorted_tables:
            if table.name in present and connection.execute(select(text("1")).select_from(table).limit(1)).first():
                return table.name
    return None


def _copy_verified(directory: Path, staged: Path, manifest: BackupManifest) -> None:
    """Copy the data beside its place, and verify every file of the backup; raises DamagedBackup."""
    shutil.rmtree(staged, ignore_errors=True)
    listing = directory / FILES
    if not listing.is_file() or copy_hashed(listing, None)[1] != manifest.files.sha256:
        raise DamagedBackup(listing, "is not what was written")
    for entry in read_file_list(directory):
        source = directory / entry.path
        target = staged / entry.path if entry.path.startswith("data/") else None
        if target:
            target.parent.mkdir(parents=True, exist_ok=True)
        try:
            found = copy_hashed(source, target)
        except FileNotFoundError:
            raise DamagedBackup(source, "is missing") from None
        if found != (entry.bytes, entry.sha256):
            raise DamagedBackup(source, "is not what was written: its SHA-256 differs")
        failpoint("restore.file")


def _live_versions(directory: Path) -> Iterator[Manifest]:
    live = {
        (row["tenant"], row["kb"]): row["live_version"]
        for row in read_rows(directory / "control/kbs.jsonl")
        if row["live_version"] is not None
    }
    for row in read_rows(directory / "control/versions.jsonl"):
        if live.get((row["tenant"], row["kb"])) == row["version"]:
            yield Manifest.from_json(KbKey(row["tenant"], row["kb"]), row["version"], row["manifest"])


def _search_once(settings: Settings, manifest: Manifest) -> None:
    """Open every table of a live version and search for one of its own chunks; raises DamagedStore."""
    name = f"{manifest.kb}, version {manifest.version}"
    with VersionReader(KbStore(KbPaths(settings.data_dir, manifest.kb)), manifest) as version:
        for role, pin in manifest.tables.items():
            if not version.table(role).is_whole():
                raise DamagedStore(f"{name}, table {pin.name}", "it is not whole")
        some = version.table("index").head(["words", "vector"], 1).to_pylist()
        # With the chunk's own vector, so that no model is needed.
        if some and not _finds(version, some[0]["words"][:200], np.asarray(some[0]["vector"], dtype=np.float32)):
            raise DamagedStore(name, "a search finds nothing")


def _finds(version: VersionReader, words: str, vector: NDArray[np.float32]) -> bool:
    return bool(search_version(version, words, lambda _: vector, k=5))


def _end_runs(connection: Connection) -> None:
    """End leases, host clients and refreshes that ran when the backup was made: no process of this home runs yet."""
    connection.execute(text("UPDATE leases SET expires_at = 0"))
    connection.execute(text("DELETE FROM host_guests"))
    connection.execute(text("UPDATE host_clocks SET holder = '', held_until = 0"))
    ended = "UPDATE refreshes SET status = 'failed', message = 'it ran when the backup was made', stage = NULL"
    connection.execute(text(f"{ended} WHERE status = 'running'"))
