"""`kb doctor`: the state of each thing that kb_pipeline depends on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kb_pipeline.errors import KbError
from kb_pipeline.model import Record
from kb_pipeline.operations import health
from kb_pipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class Finding(Record):
    """What one check found."""

    check: str
    ok: bool
    """Whether it works today."""
    what: str
    """The state, or what is broken and what to do."""
    warning: bool = False
    """Whether it will bite later."""

    @property
    def verdict(self) -> str:
        """What a person reads first."""
        return "NO" if not self.ok else "later" if self.warning else "yes"


def examine(settings: Settings) -> list[Finding]:
    """Run every check; returns one finding for each, in a fixed order."""
    checks: dict[str, Callable[[Settings], str]] = {
        "python": health.check_python,
        "packages": health.check_packages,
        "home": health.check_home,
        "disk": health.check_disk,
        "open files": health.check_open_files,
        "contact": health.check_contact,
        "control plane": health.check_control_plane,
        "clock": health.check_clock,
        "dagster": _dagster,
        "migrations": _migrations,
        "daemons": _daemons,
        "code server": _code_server,
        "runs": _runs,
        "schedules": _schedules,
        "KBs": health.check_kbs,
        "embedding": health.check_embedding,
        "other models": health.check_other_models,
        "network": health.check_network,
        **health.source_checks(),
    }
    return [run_check(name, check, settings) for name, check in checks.items()]


def run_check(name: str, check: Callable[[Settings], str], settings: Settings) -> Finding:
    """Run one check; an error that it raises is its finding."""
    try:
        told = check(settings)
        return Finding(name, True, str(told), warning=isinstance(told, health.Warned))
    except KbError as error:
        return Finding(name, False, str(error))
    except Exception as error:  # noqa: BLE001 - whatever is broken is the finding
        return Finding(name, False, f"{type(error).__name__}: {error}")


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


def _schedules(settings: Settings) -> str:
    from kb_pipeline.defs.health import is_daemon_alive
    from kb_pipeline.defs.instance import open_instance

    with open_instance(settings) as instance:
        return health.check_schedules(settings, is_daemon_alive=is_daemon_alive(instance))
