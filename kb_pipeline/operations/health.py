"""Checks what an installation depends on, without Dagster: each returns a sentence, a `Warned` one, or raises."""

from __future__ import annotations

import importlib.metadata
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from kb_pipeline.control.db.engine import Database
from kb_pipeline.errors import Unhealthy
from kb_pipeline.fetch.registry import SOURCE_TYPES
from kb_pipeline.settings import Settings

if TYPE_CHECKING:
    from kb_pipeline.control.runs.overview import KbOverview

_PACKAGES = ("dagster", "scrapy", "trafilatura", "openvino", "pylance", "polars", "sqlalchemy")
_LEAST_FREE_BYTES = 1 << 30
_LITTLE_FREE_BYTES = 5 << 30
_MOST_OFFSET_S = 2.0
_FEW_FILES = 1024
_LONG_HELD = timedelta(days=3)


class Warned(str):
    """The state of something that works today and will bite later, with what to do."""

    __slots__ = ()


def check_python(_: Settings) -> str:
    """Return the version of Python."""
    return sys.version.split()[0]


def check_packages(_: Settings) -> str:
    """Return the versions of the packages that matter most."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)


def check_home(settings: Settings) -> str:
    """Write to the home; raises OSError if that is not possible."""
    settings.home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=settings.home):
        told = f"{settings.home} is writable"
    if settings.home.is_relative_to(Path(tempfile.gettempdir()).resolve()):
        return Warned(f"{told}, but lies in a folder for temporary files, which may be emptied: set KB_HOME to another")
    return told


def check_contact(settings: Settings) -> str:
    """Return what sites are told of whoever crawls them; a warning if that is nothing."""
    if settings.contact:
        return f"{settings.contact} is sent with every request"
    return Warned("none: set KB_CONTACT to an e-mail address or web page, or sites that mind a crawl can only block it")


def check_open_files(_: Settings) -> str:
    """Return how many files a process may have open; a warning where that is few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _FEW_FILES:
        return Warned(f"a process may open {soft} files: raise it with ulimit -n {min(hard, 8192)}")
    return f"a process may open {soft:,} files"


def check_kbs(settings: Settings) -> str:
    """Return how KBs stand; a warning for those that wait for somebody."""
    from kb_pipeline.control.runs.overview import list_overviews

    kbs = list_overviews(open_control_plane(settings))
    counts = Counter(kb.status for kb in kbs)
    told = ", ".join(f"{count} {state}" for state, count in counts.most_common()) or "none yet"
    stuck = [str(kb.kb) for kb in kbs if kb.status in ("failed", "held", "interrupted") and _is_long_ago(kb)]
    if stuck:
        return Warned(f"{told}; for more than {_LONG_HELD.days} days: {', '.join(stuck[:5])}; see kb status KB")
    return told


def check_schedules(settings: Settings, *, is_daemon_alive: bool) -> str:
    """Return how many KBs are refreshed by a schedule; a warning if nothing runs their schedules."""
    from kb_pipeline.control.kbs.catalog import list_kbs

    scheduled = sum(1 for kb in list_kbs(open_control_plane(settings)) if kb.cron)
    if scheduled and not is_daemon_alive:
        return Warned(f"{scheduled} KBs have a schedule and nothing runs it: start kb ui, or a daemon of your own")
    return f"{scheduled} KBs have a schedule"


def _is_long_ago(kb: KbOverview) -> bool:
    return kb.last_refresh_at is not None and datetime.now(UTC) - kb.last_refresh_at > _LONG_HELD


def check_disk(settings: Settings) -> str:
    """Raise Unhealthy where less than a gibibyte is free."""
    free = {folder: shutil.disk_usage(_existing(folder)).free for folder in (settings.home, settings.data_dir)}
    for folder, size in free.items():
        if size < _LEAST_FREE_BYTES:
            raise Unhealthy(f"only {size >> 20} MiB free under {folder}; a refresh may need more")
    told = ", ".join(f"{size >> 30} GiB free under {folder}" for folder, size in free.items())
    if min(free.values()) < _LITTLE_FREE_BYTES:
        return Warned(f"{told}: versions, backups and repairs need room; free some, or set KB_HOME to a larger disk")
    return told


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def open_control_plane(settings: Settings) -> Database:
    """Open the control plane, which brings its schema up to date; raises SchemaTooNew."""
    return Database(settings.database_url)


def check_control_plane(settings: Settings) -> str:
    """Ask the control plane how many KBs there are."""
    from kb_pipeline.control.kbs.catalog import list_kbs

    db = Database(settings.database_url)
    return f"{db.url.get_backend_name()}, {sum(1 for _ in list_kbs(db))} KBs"


def check_clock(settings: Settings) -> str:
    """Compare this machine's clock with the database's.

    Leases and heartbeats are compared across machines; one whose clock is off loses its own or takes others'.

    Raises:
        Unhealthy: the clock is off, or went back.
    """
    from kb_pipeline.control.runs.heartbeats import database_time

    db = Database(settings.database_url)
    before = time.time()
    there = database_time(db)
    after = time.time()
    if after < before:
        raise Unhealthy(f"the time went back by {before - after:.3f} s; let a time service slew the clock, not set it")
    offset = there - (before + after) / 2
    if abs(offset) > _MOST_OFFSET_S + (after - before) / 2:
        raise Unhealthy(f"this machine is {offset:+.1f} s off the database's clock; synchronize both with NTP")
    return "one machine, one clock" if db.is_sqlite else f"{offset:+.3f} s to the database's"


def check_embedding(settings: Settings) -> str:
    """Embed a question with the default model."""
    from kb_pipeline.embed import open_embedder

    embedder = open_embedder("multilingual-e5-small", cache_dir=settings.models_dir)
    vector = embedder.embed_query("is everything well?")
    return f"{embedder.name} gives {len(vector)} dimensions"


def check_other_models(_: Settings) -> str:
    """Say whether models of the extra `torch` can be opened, and where they would run."""
    from kb_pipeline.embed.models import missing_packages

    if lacking := missing_packages():
        return (
            f"none: {' and '.join(lacking)} not installed, which only models other than multilingual-e5-small need; "
            "get them with: pip install 'kb-pipeline[torch]'"
        )
    from kb_pipeline.embed.local_models import describe_torch

    return describe_torch()


def check_network(settings: Settings) -> str:
    """Say which networks may be fetched from."""
    opened = ", ".join(settings.allowed_networks)
    through = f"; everything is fetched through {settings.proxy}" if settings.proxy else ""
    networks = f"private networks opened to fetching: {opened}" if opened else "private networks are closed to fetching"
    return networks + through


def source_checks() -> dict[str, Callable[[Settings], str]]:
    """Return, by name, a check of each thing beyond this package that a type of source depends on."""
    return {name: check for each in SOURCE_TYPES.values() for name, check in each.DEPENDENCIES.items()}
