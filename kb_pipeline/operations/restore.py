"""Puts a backup into an empty home: checksums first, then the data, then the control plane, which is the switch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from sqlalchemy import Connection, Engine, inspect, select, text
from sqlalchemy.engine import make_url

from kb_pipeline.control.db.dump import load_tables, read_rows
from kb_pipeline.control.db.engine import open_engine
from kb_pipeline.control.db.models import Base, FlagChanges
from kb_pipeline.errors import DamagedBackup, DamagedStore, UsageError
from kb_pipeline.failpoints import failpoint
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.index.search import search_version
from kb_pipeline.model import KbKey
from kb_pipeline.operations.backup import FILES, FORMAT, LEFT_OUT, MANIFEST, copy_hashed
from kb_pipeline.settings import Settings
from kb_pipeline.store.durable_files import fsync_path, fsync_tree, write_durably
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.manifest import Manifest
from kb_pipeline.store.paths import KbPaths

_MARKER = ".restoring"
"""In a home into which a restore has begun: what is there is its own, and the next restore begins anew."""
_HARMLESS = frozenset({_MARKER, "models", "backup.lock"})
_NEVER_EMPTY = frozenset({FlagChanges.__tablename__})
"""Has its row from the migration that makes it."""


def restore_backup(settings: Settings, directory: Path) -> dict[str, Any]:
    """Make the home what the backup holds; killed on the way, the same call begins anew.

    Returns:
        What `kb restore` prints.

    Raises:
        UsageError: the home is not empty, or there is no backup.
        DamagedBackup: a file is missing or not what was written; it is named.
        SchemaTooNew: a newer release made the backup.
    """
    directory = directory.expanduser().resolve()
    manifest = _manifest(directory)
    if not _is_done(settings, manifest):
        _put_in_place(settings, directory, manifest)
    shutil.rmtree(_staging(settings), ignore_errors=True)
    (settings.home / _MARKER).unlink()
    return {
        "home": str(settings.home),
        "made_at": manifest["made_at"],
        "rows": sum(manifest["rows"].values()),
        "files": manifest["files"]["count"],
        "live_versions": [f"{live.kb} {live.version}" for live in _live_versions(directory)],
        "left_out": list(LEFT_OUT),
    }


def _put_in_place(settings: Settings, directory: Path, manifest: dict[str, Any]) -> None:
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
        load_tables(engine, directory / "control", manifest["schema_revision"], _settle)
        failpoint("restore.tables")
    finally:
        engine.dispose()
        shutil.rmtree(staged, ignore_errors=True)


def _staging(settings: Settings) -> Path:
    """Beside the data, where it can be renamed into place."""
    return settings.data_dir.with_name(f"{_MARKER}-{settings.data_dir.name}")


def _manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    if not path.is_file():
        raise UsageError(f"{directory} is no backup: it has no {MANIFEST}")
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        is_known = manifest["format"] == FORMAT
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedBackup(path, f"cannot be read: {error}") from None
    if not is_known:
        raise UsageError(f"{path}: format {manifest['format']} is newer than this release; restore it with its own")
    return manifest


def _is_done(settings: Settings, manifest: dict[str, Any]) -> bool:
    """Make sure that nothing is there but what an earlier restore left, and mark what comes as ours.

    The control plane is filled last, in one transaction: a home that is marked and has rows was restored before.
    """
    marker, backup = settings.home / _MARKER, str(manifest["files"]["sha256"]).encode()
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
        _forget_tables(settings)
    else:
        _refuse_files(settings)
    write_durably(marker, backup)
    failpoint("restore.begun")
    return False


def _forget_tables(settings: Settings) -> None:
    """Also a schema that is newer than the backup's; on Postgres the migrations find their way from there."""
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite" and url.database:
        for end in ("", "-wal", "-shm"):
            Path(url.database + end).unlink(missing_ok=True)


def _refuse_files(settings: Settings) -> None:
    for folder in (settings.home, settings.data_dir):
        found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        # An empty control plane and an empty folder for data are nothing yet.
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


def _copy_verified(directory: Path, staged: Path, manifest: dict[str, Any]) -> None:
    """Copy the data beside its place, and look at every file of the backup; raises DamagedBackup."""
    shutil.rmtree(staged, ignore_errors=True)
    listing = directory / FILES
    if not listing.is_file() or copy_hashed(listing, None)[1] != manifest["files"]["sha256"]:
        raise DamagedBackup(listing, "is not what was written")
    for entry in _entries(listing):
        source = directory / entry["path"]
        target = staged / entry["path"] if entry["path"].startswith("data/") else None
        if target:
            target.parent.mkdir(parents=True, exist_ok=True)
        try:
            found = copy_hashed(source, target)
        except FileNotFoundError:
            raise DamagedBackup(source, "is missing") from None
        if found != (entry["bytes"], entry["sha256"]):
            raise DamagedBackup(source, "is not what was written: its SHA-256 differs")
        failpoint("restore.file")


def _entries(listing: Path) -> Iterator[dict[str, Any]]:
    for entry in read_rows(listing):
        path = PurePosixPath(entry["path"])
        if path.is_absolute() or ".." in path.parts or path.parts[0] not in ("data", "control"):
            raise DamagedBackup(listing, f"names {entry['path']!r}")
        yield entry


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
    """Open every table of a live version and ask it for one of its own chunks; raises DamagedStore."""
    told = f"{manifest.kb}, version {manifest.version}"
    with VersionReader(KbStore(KbPaths(settings.data_dir, manifest.kb)), manifest) as version:
        for role, pin in manifest.tables.items():
            if not version.table(role).is_whole():
                raise DamagedStore(f"{told}, table {pin.name}", "it is not whole")
        some = version.table("index").head(["words", "vector"], 1).to_pylist()
        # With its own vector: no model has to be there.
        if some and not search_version(version, some[0]["words"][:200], lambda _: some[0]["vector"], k=5):
            raise DamagedStore(told, "a search finds nothing")


def _settle(connection: Connection) -> None:
    """Nobody writes here yet: what ran when the backup was made did not come to its end."""
    connection.execute(text("UPDATE leases SET expires_at = 0"))
    connection.execute(text("DELETE FROM host_guests"))
    connection.execute(text("UPDATE host_clocks SET holder = '', held_until = 0"))
    ended = "UPDATE refreshes SET status = 'failed', message = 'it ran when the backup was made', stage = NULL"
    connection.execute(text(f"{ended} WHERE status = 'running'"))
