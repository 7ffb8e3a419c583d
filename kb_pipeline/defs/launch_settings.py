"""Reads from the environment how runs are launched; only processes that launch runs read it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, get_args

from kb_pipeline.errors import InvalidSetting

Launcher = Literal["process", "docker", "kubernetes", "elsewhere"]

LAUNCH_VARIABLES = (
    "KB_RUN_LAUNCHER",
    "KB_RUN_IMAGE",
    "KB_RUN_VOLUMES",
    "KB_RUN_CPUS",
    "KB_RUN_MEMORY_MB",
    "KB_RUN_SECCOMP",
    "KB_DOCKER_NETWORK",
    "KB_K8S_NAMESPACE",
    "KB_K8S_SERVICE_ACCOUNT",
    "KB_K8S_CONFIG_MAPS",
    "KB_K8S_SECRETS",
)
"""All variables that this module reads; runs do not need them."""

_SOURCE = re.compile(r"[A-Za-z0-9._/-]+")
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount of a run's container: one `SOURCE:TARGET[:ro]` of `KB_RUN_VOLUMES`."""

    source: str
    """Docker: a volume's name or a path of the host. Kubernetes: `claim/NAME` or `secret/NAME`."""
    target: PurePosixPath
    read_only: bool

    def holds(self, path: PurePosixPath) -> bool:
        """Return whether a path of the container is in this mount."""
        return path.is_relative_to(self.target)


@dataclass(frozen=True, slots=True)
class LaunchSettings:
    """How the worker of a run is started, and with what resources."""

    launcher: Launcher
    """`KB_RUN_LAUNCHER`; `elsewhere` is for roles that start no runs, such as a web UI beside a daemon that does."""
    image: str = ""
    mounts: tuple[Mount, ...] = ()
    cpus: float = 2
    memory_mb: int = 4096
    network: str = ""
    seccomp: str = ""
    """`KB_RUN_SECCOMP`: the seccomp profile of a run, empty for the engine's own. Docker: a file that holds it.
    Kubernetes: the name of one that every node has."""
    namespace: str = "default"
    service_account: str = "default"
    config_maps: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    in_cluster: bool = False
    """Whether this process runs in the cluster too; otherwise its API is found as kubectl finds it."""


def load_launch_settings() -> LaunchSettings:
    """Read the environment; raise InvalidSetting, which names the variable and what is allowed."""
    launcher = _launcher(os.environ.get("KB_RUN_LAUNCHER") or "process")
    if launcher in ("process", "elsewhere"):
        return LaunchSettings(launcher)
    in_docker = launcher == "docker"
    return LaunchSettings(
        launcher,
        image=_required("KB_RUN_IMAGE", launcher),
        mounts=tuple(_mount(part, in_docker=in_docker) for part in _listed("KB_RUN_VOLUMES")),
        cpus=_positive("KB_RUN_CPUS", "2"),
        memory_mb=round(_positive("KB_RUN_MEMORY_MB", "4096")),
        network=_required("KB_DOCKER_NETWORK", launcher) if in_docker else "",
        seccomp=os.environ.get("KB_RUN_SECCOMP", ""),
        namespace=_name("KB_K8S_NAMESPACE"),
        service_account=_name("KB_K8S_SERVICE_ACCOUNT"),
        config_maps=_names("KB_K8S_CONFIG_MAPS", _DNS_LABEL),
        secrets=_names("KB_K8S_SECRETS", _DNS_LABEL),
        in_cluster="KUBERNETES_SERVICE_HOST" in os.environ,
    )


def _launcher(given: str) -> Launcher:
    for allowed in get_args(Launcher):
        if given == allowed:
            return allowed  # type: ignore[no-any-return]
    raise InvalidSetting("KB_RUN_LAUNCHER", f"got {given!r}; allowed are {', '.join(get_args(Launcher))}")


def _required(name: str, launcher: str) -> str:
    value = os.environ.get(name, "").strip()
    if not value:
        raise InvalidSetting(name, f"must be set with KB_RUN_LAUNCHER={launcher}")
    return value


def _listed(name: str) -> Sequence[str]:
    return [part.strip() for part in os.environ.get(name, "").split(",") if part.strip()]


def _names(name: str, pattern: re.Pattern[str]) -> tuple[str, ...]:
    names = tuple(_listed(name))
    if wrong := [part for part in names if not pattern.fullmatch(part)]:
        raise InvalidSetting(name, f"comma-separated names; {wrong[0]!r} is none")
    return names


def _name(name: str) -> str:
    value = os.environ.get(name) or "default"
    if not _DNS_LABEL.fullmatch(value):
        raise InvalidSetting(name, f"got {value!r}; give a name as Kubernetes allows it")
    return value


def _mount(given: str, *, in_docker: bool) -> Mount:
    source, _, rest = given.partition(":")
    target, _, mode = rest.partition(":")
    kind, slash, name = source.partition("/")
    is_known = _SOURCE.fullmatch(source) and (in_docker or (kind in ("claim", "secret") and slash and name))
    if not is_known or not target.startswith("/") or mode not in ("", "ro"):
        sources = "a volume or a path of the host" if in_docker else "claim/NAME or secret/NAME"
        raise InvalidSetting("KB_RUN_VOLUMES", f"got {given!r}; give SOURCE:/TARGET[:ro],... with SOURCE {sources}")
    return Mount(source, PurePosixPath(target), mode == "ro")


def _positive(name: str, default: str) -> float:
    given = os.environ.get(name) or default
    try:
        value = float(given)
    except ValueError:
        value = 0
    if not 0 < value < 1e9:  # not NaN either
        raise InvalidSetting(name, f"got {given!r}; give a number above 0")
    return value
