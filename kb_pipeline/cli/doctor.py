"""`kb doctor`: the state of each thing kb_pipeline depends on."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kb_pipeline.control.db.engine import Database
from kb_pipeline.errors import KbError, Unhealthy
from kb_pipeline.fetch.registry import SOURCE_TYPES
from kb_pipeline.settings import Settings, load_settings

_PACKAGES = ("dagster", "scrapy", "trafilatura", "openvino", "lancedb", "pylance", "polars", "sqlalchemy")
_LEAST_FREE_BYTES = 1 << 30
_MOST_OFFSET_S = 2.0


def examine() -> list[dict[str, Any]]:
    """One finding a check: `check`, `ok`, `what`; a broken one says what to do."""
    settings = load_settings()
    checks: dict[str, Callable[[Settings], str]] = {
        "python": _python,
        "packages": _packages,
        "home": _home,
        "disk": _disk,
        "control plane": _control_plane,
        "clock": check_clock,
        "dagster": _dagster,
        "migrations": _migrations,
        "daemons": _daemons,
        "code server": _code_server,
        "runs": _runs,
        "embedding": _embedding,
        "network": _network,
        **{name: check for each in SOURCE_TYPES.values() for name, check in each.DEPENDENCIES.items()},
    }
    return [run_check(name, check, settings) for name, check in checks.items()]


def run_check(name: str, check: Callable[[Settings], str], settings: Settings) -> dict[str, Any]:
    """What one check finds; whatever it raises is the finding."""
    try:
        return {"check": name, "ok": True, "what": check(settings)}
    except KbError as error:
        return {"check": name, "ok": False, "what": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever is broken is the finding
        return {"check": name, "ok": False, "what": f"{type(error).__name__}: {error}"}


def _python(_: Settings) -> str:
    return sys.version.split()[0]


def _packages(_: Settings) -> str:
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)


def _home(settings: Settings) -> str:
    settings.home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=settings.home):
        return f"{settings.home} is writable"


def _disk(settings: Settings) -> str:
    free = {folder: shutil.disk_usage(_existing(folder)).free for folder in (settings.home, settings.data_dir)}
    for folder, size in free.items():
        if size < _LEAST_FREE_BYTES:
            raise Unhealthy(f"only {size >> 20} MiB free under {folder}; a refresh may need more")
    return ", ".join(f"{size >> 30} GiB free under {folder}" for folder, size in free.items())


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there already."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _control_plane(settings: Settings) -> str:
    from kb_pipeline.control.kbs.catalog import list_kbs

    db = Database(settings.database_url)
    return f"{db.url.get_backend_name()}, {sum(1 for _ in list_kbs(db))} KBs"


def check_clock(settings: Settings) -> str:
    """Leases and heartbeats are compared across machines; one whose clock is off loses its own or takes others'."""
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


def _dagster(settings: Settings) -> str:
    from kb_pipeline.defs.instance import open_instance
    from kb_pipeline.defs.partitions import knowledge_bases

    with open_instance(settings) as instance:
        return f"{len(instance.get_dynamic_partitions(str(knowledge_bases.name)))} partitions"


def _migrations(settings: Settings) -> str:
    from kb_pipeline.control.db.schema_revision import HEAD
    from kb_pipeline.defs.health import check_schemas
    from kb_pipeline.defs.instance import open_instance

    Database(settings.database_url).dispose()  # brings it up to date, or says that it is a newer release's
    with open_instance(settings) as instance:
        return f"the control plane is at revision {HEAD}, {check_schemas(instance)}"


def _daemons(settings: Settings) -> str:
    from kb_pipeline.defs.health import check_daemons
    from kb_pipeline.defs.instance import open_instance

    with open_instance(settings) as instance:  # a home of its own may do without; a shared control plane is a server's
        return check_daemons(instance, is_required=settings.is_postgres)


def _code_server(settings: Settings) -> str:
    from kb_pipeline.defs.health import check_code_server
    from kb_pipeline.defs.instance import open_instance

    with open_instance(settings) as instance:
        return check_code_server(instance)


def _runs(settings: Settings) -> str:
    from kb_pipeline.defs.health import check_runs
    from kb_pipeline.defs.instance import open_instance

    with open_instance(settings) as instance:
        return check_runs(instance, Database(settings.database_url))


def _embedding(settings: Settings) -> str:
    from kb_pipeline.embed import open_embedder

    embedder = open_embedder("multilingual-e5-small", cache_dir=settings.models_dir)
    vector = embedder.embed_query("is everything well?")
    return f"{embedder.name} gives {len(vector)} dimensions"


def _network(settings: Settings) -> str:
    opened = ", ".join(settings.allowed_networks)
    through = f"; everything is fetched through {settings.proxy}" if settings.proxy else ""
    told = f"private networks opened to fetching: {opened}" if opened else "private networks are closed to fetching"
    return told + through
