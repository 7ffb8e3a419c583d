"""`kb doctor`: the state of each thing kb_pipeline depends on."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from kb_pipeline.errors import BrowserMissing
from kb_pipeline.settings import Settings, load_settings

_PACKAGES = ("dagster", "scrapy", "trafilatura", "openvino", "lancedb", "pylance", "polars", "sqlalchemy")
_LEAST_FREE_BYTES = 1 << 30


def examine() -> list[dict[str, Any]]:
    """One finding a check: `check`, `ok`, `what`; a broken one says what to do."""
    settings = load_settings()
    checks: dict[str, Callable[[Settings], str]] = {
        "python": _python,
        "packages": _packages,
        "home": _home,
        "disk": _disk,
        "control plane": _control_plane,
        "dagster": _dagster,
        "embedding": _embedding,
        "network": _network,
        "browser": _browser,
    }
    return [_run(name, check, settings) for name, check in checks.items()]


def _run(name: str, check: Callable[[Settings], str], settings: Settings) -> dict[str, Any]:
    try:
        return {"check": name, "ok": True, "what": check(settings)}
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
    free = shutil.disk_usage(settings.home).free
    if free < _LEAST_FREE_BYTES:
        raise OSError(f"only {free >> 20} MiB free under {settings.home}; a refresh may need more")
    return f"{free >> 30} GiB free"


def _control_plane(settings: Settings) -> str:
    from kb_pipeline.control.catalogue import list_kbs
    from kb_pipeline.control.database import Database

    db = Database(settings.database_url)
    return f"{db.url.get_backend_name()}, {sum(1 for _ in list_kbs(db))} KBs"


def _dagster(settings: Settings) -> str:
    from kb_pipeline.defs.instance import open_instance
    from kb_pipeline.defs.partitions import knowledge_bases

    with open_instance(settings) as instance:
        keys = instance.get_dynamic_partitions(str(knowledge_bases.name))
        heartbeats = instance.get_daemon_heartbeats()
    daemon = "its daemon has run" if heartbeats else "no daemon yet: sensors run under kb ui"
    return f"{len(keys)} partitions; {daemon}"


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


def _browser(settings: Settings) -> str:
    from kb_pipeline.fetch.web.browser import find_browser

    try:
        return f"{find_browser(settings.browser)} renders pages"
    except BrowserMissing as missing:
        if settings.browser:
            raise
        return f"none, which only sources with render: auto or always need; {missing}"
