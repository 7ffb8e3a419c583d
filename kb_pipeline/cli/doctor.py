"""`kb doctor`: the state of each thing kb_pipeline depends on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kb_pipeline.errors import KbError
from kb_pipeline.operations import health
from kb_pipeline.settings import Settings


def examine(settings: Settings) -> list[dict[str, Any]]:
    """One finding a check: `check`, `ok`, `what`; a broken one says what to do."""
    checks: dict[str, Callable[[Settings], str]] = {
        "python": health.check_python,
        "packages": health.check_packages,
        "home": health.check_home,
        "disk": health.check_disk,
        "control plane": health.check_control_plane,
        "clock": health.check_clock,
        "dagster": _dagster,
        "migrations": _migrations,
        "daemons": _daemons,
        "code server": _code_server,
        "runs": _runs,
        "embedding": health.check_embedding,
        "network": health.check_network,
        **health.source_checks(),
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


def _dagster(settings: Settings) -> str:
    from kb_pipeline.defs.instance import open_instance
    from kb_pipeline.defs.partitions import knowledge_bases

    with open_instance(settings) as instance:
        return f"{len(instance.get_dynamic_partitions(str(knowledge_bases.name)))} partitions"


def _migrations(settings: Settings) -> str:
    from kb_pipeline.control.db.schema_revision import HEAD
    from kb_pipeline.defs.health import check_schemas
    from kb_pipeline.defs.instance import open_instance

    health.open_control_plane(settings).dispose()  # brings it up to date, or says that it is a newer release's
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
        return check_runs(instance, health.open_control_plane(settings))
