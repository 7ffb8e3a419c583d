"""How runs are launched: what the environment may say, and errors that name the variable."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pytest

from kb_pipeline.defs.launch_settings import LAUNCH_VARIABLES, LaunchSettings, Mount, load_launch_settings
from kb_pipeline.errors import InvalidSetting

DOCKER = {"KB_RUN_LAUNCHER": "docker", "KB_RUN_IMAGE": "kb:1", "KB_DOCKER_NETWORK": "kb"}
KUBERNETES = {"KB_RUN_LAUNCHER": "kubernetes", "KB_RUN_IMAGE": "kb:1"}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCH_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def load(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> LaunchSettings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load_launch_settings()


def test_runs_are_processes_unless_said_otherwise() -> None:
    assert load_launch_settings() == LaunchSettings("process")


def test_what_docker_needs_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    volumes = "kb_home:/data, /srv/kb/secrets/url:/run/secrets/url:ro"
    launch = load(monkeypatch, DOCKER | {"KB_RUN_VOLUMES": volumes})
    assert launch.mounts == (
        Mount("kb_home", PurePosixPath("/data"), read_only=False),
        Mount("/srv/kb/secrets/url", PurePosixPath("/run/secrets/url"), read_only=True),
    )
    assert (launch.cpus, launch.memory_mb) == (2, 4096)


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"KB_RUN_LAUNCHER": "podman"}, "KB_RUN_LAUNCHER"),
        ({"KB_RUN_LAUNCHER": "docker"}, "KB_RUN_IMAGE"),
        ({"KB_RUN_LAUNCHER": "docker", "KB_RUN_IMAGE": "kb:1"}, "KB_DOCKER_NETWORK"),
        (DOCKER | {"KB_RUN_VOLUMES": "kb_home"}, "KB_RUN_VOLUMES"),
        (DOCKER | {"KB_RUN_VOLUMES": "kb_home:data"}, "KB_RUN_VOLUMES"),
        (DOCKER | {"KB_RUN_VOLUMES": "kb_home:/data:rw,z"}, "KB_RUN_VOLUMES"),
        (DOCKER | {"KB_RUN_CPUS": "many"}, "KB_RUN_CPUS"),
        (DOCKER | {"KB_RUN_CPUS": "nan"}, "KB_RUN_CPUS"),
        (DOCKER | {"KB_RUN_MEMORY_MB": "-1"}, "KB_RUN_MEMORY_MB"),
        (KUBERNETES | {"KB_RUN_VOLUMES": "kb-home:/data"}, "KB_RUN_VOLUMES"),
        (KUBERNETES | {"KB_K8S_NAMESPACE": "Not A Name"}, "KB_K8S_NAMESPACE"),
        (KUBERNETES | {"KB_K8S_SECRETS": "ok,../etc"}, "KB_K8S_SECRETS"),
    ],
)
def test_impossible_values_name_the_variable(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], name: str
) -> None:
    with pytest.raises(InvalidSetting, match=f"^{name}: "):
        load(monkeypatch, environment)


def test_the_launchers_that_are_allowed_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidSetting, match="got 'podman'; allowed are process, docker, kubernetes, elsewhere"):
        load(monkeypatch, {"KB_RUN_LAUNCHER": "podman"})


def test_every_variable_that_is_read_is_known_by_name() -> None:
    source = (Path(__file__).parents[2] / "kb_pipeline/defs/launch_settings.py").read_text()
    assert set(re.findall(r"KB_[A-Z0-9_]+", source)) == set(LAUNCH_VARIABLES)
