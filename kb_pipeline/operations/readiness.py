"""Says whether what reading a KB depends on can be used right now: control plane, storage, model; and the daemon."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.runs.heartbeats import DAEMON_SILENT_S, daemon_silence_s
from kb_pipeline.control.runs.overview import count_held, list_overviews, live_models
from kb_pipeline.errors import DamagedStore, KbError, Unhealthy, is_database_error
from kb_pipeline.model import Record
from kb_pipeline.operations.readers import Readers
from kb_pipeline.operations.search import search_kb
from kb_pipeline.settings import Settings

_SAMPLE = b"written to be read back"
_SAMPLE_QUERY = "is everything well?"
_FAULTS = (OSError, KbError)


@dataclass(frozen=True, slots=True)
class Dependency(Record):
    """One thing that the service depends on."""

    name: str
    ok: bool
    is_required: bool
    """Whether nothing can be answered without it; refreshes wait where the daemon is away, reading goes on."""
    detail: str
    """What is wrong and what to do; empty where all is well. For the operator: it may name folders."""


def check_dependencies(settings: Settings, db: Database, readers: Readers) -> list[Dependency]:
    """Try each dependency, and return what was found."""
    return [
        _checked("database", True, lambda: count_held(db)),
        _checked("storage", True, lambda: _write_and_read(settings)),
        _checked("model", True, lambda: open_most_used_model(db, readers)),
        _checked("daemon", False, lambda: _hear_daemon(db)),
    ]


def open_most_used_model(db: Database, readers: Readers) -> None:
    """Open the embedding model that most live versions need, if any does, so that it answers from then on at once.

    Raises:
        UnknownModel, DeviceUnavailable: it cannot be opened here.
    """
    if models := live_models(db):
        readers.embed_passages(models[0], [_SAMPLE_QUERY])


def warm_up(db: Database, readers: Readers) -> None:
    """Search one KB, so that libraries, model and tables are loaded before somebody waits for them.

    Raises:
        KbError: it cannot be searched.
    """
    published = (each for each in list_overviews(db) if each.live_version is not None)
    if (largest := max(published, key=lambda each: each.documents, default=None)) is not None:
        search_kb(readers, largest.kb, _SAMPLE_QUERY, k=1)


def _checked(name: str, is_required: bool, check: Callable[[], object]) -> Dependency:
    try:
        check()
    except Exception as error:
        if not isinstance(error, _FAULTS) and not is_database_error(error):
            raise
        return Dependency(name, False, is_required, str(error).partition("\n")[0])
    return Dependency(name, True, is_required, "")


def _write_and_read(settings: Settings) -> None:
    """Write a few bytes where versions lie, and read them back; raises OSError, DamagedStore."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=settings.data_dir) as file:
        file.write(_SAMPLE)
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        if file.read() != _SAMPLE:
            raise DamagedStore(str(settings.data_dir), "it gives back other bytes than were written")


def _hear_daemon(db: Database) -> None:
    """Raise Unhealthy unless a daemon gave a sign of life lately."""
    silence_s = daemon_silence_s(db)
    if silence_s is None or silence_s > DAEMON_SILENT_S:
        last = "never" if silence_s is None else f"{silence_s:.0f} s ago"
        raise Unhealthy(
            f"no daemon runs (last heard of: {last}): schedules and refreshes that are asked for wait; start kb up"
        )
