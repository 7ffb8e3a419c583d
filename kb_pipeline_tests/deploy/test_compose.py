"""docker-compose.yml and the Dockerfile: valid, and at one with each other and the code."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kb_pipeline.defs.launch_settings import LAUNCH_VARIABLES
from kb_pipeline.defs.launchers import IMAGE_GROUP
from kb_pipeline.settings import VARIABLES

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
ROLES = {"code", "webserver", "viewer", "api", "daemon"}
DOCKERFILE = (ROOT / "Dockerfile").read_text()
KNOWN = set(VARIABLES) | set(LAUNCH_VARIABLES)


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KB_")}
    return subprocess.run(command, cwd=ROOT, env=clean | environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def configured() -> Any:
    """Return the configuration that docker-compose reads from the file and .env.example."""
    if shutil.which("docker-compose") is None:
        pytest.skip("docker-compose is not installed (Debian: docker-compose)")
    done = run("docker-compose", "-f", "docker-compose.yml", "--env-file", ".env.example", "config")
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


def test_the_file_is_what_the_specification_allows() -> None:
    done = run(str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")
    assert done.returncode == 0, done.stdout


def test_docker_compose_reads_it_with_the_example_of_settings(configured: Any) -> None:
    assert set(configured["services"]) == set(SERVICES)
    daemon = configured["services"]["daemon"]["environment"]
    mounts = "kb_home:/data,/srv/kb/secrets/database_url:/run/secrets/database_url:ro"
    assert daemon["KB_RUN_VOLUMES"] == mounts
    assert configured["secrets"]["database_url"]["file"] == "/srv/kb/secrets/database_url"


def test_it_says_what_is_missing_without_settings(tmp_path: Path) -> None:
    if shutil.which("docker-compose") is None:
        pytest.skip("docker-compose is not installed (Debian: docker-compose)")
    (tmp_path / "empty").touch()
    done = run("docker-compose", "-f", "docker-compose.yml", "--env-file", str(tmp_path / "empty"), "config")
    assert done.returncode != 0
    assert "an absolute path, see .env.example" in done.stderr


def test_every_role_runs_the_same_image() -> None:
    images = {SERVICES[role]["image"] for role in ROLES} | {SERVICES["daemon"]["environment"]["KB_RUN_IMAGE"]}
    assert len(images) == 1


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_watched_limited_and_locked_up(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] == "CMD"
    limits = service["deploy"]["resources"]["limits"]
    assert {"cpus", "memory"} <= set(limits)
    assert service["read_only"]
    assert "no-new-privileges:true" in service["security_opt"]
    if name != "docker-proxy":  # it alone must open the engine's socket
        uid, gid = service["user"].split(":")
        assert int(uid) > 0
        assert int(gid) > 0
        assert service["cap_drop"] == ["ALL"]


def test_every_variable_is_known_to_the_settings() -> None:
    for role in ROLES:
        given = {name for name in SERVICES[role]["environment"] if name.startswith("KB_")}
        assert given <= KNOWN, role
        assert role == "daemon" or SERVICES[role]["environment"]["KB_RUN_LAUNCHER"] == "elsewhere"


def test_every_variable_of_the_file_is_in_the_example_and_the_other_way_round() -> None:
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    assert set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)) == used


def test_no_secret_is_given_by_value() -> None:
    for service in SERVICES.values():
        for name in service["environment"]:
            assert not re.search(r"PASSWORD$|DATABASE_URL$|TOKEN|SECRET", name)
    assert all("file" in secret for secret in COMPOSE["secrets"].values())


def test_only_the_daemon_reaches_the_engine_and_only_through_the_proxy() -> None:
    on_engine = {name for name, service in SERVICES.items() if "engine" in service["networks"]}
    assert on_engine == {"daemon", "docker-proxy"}
    assert SERVICES["docker-proxy"]["networks"] == ["engine"]
    assert COMPOSE["networks"]["engine"]["internal"]
    with_socket = {name for name, service in SERVICES.items() if "docker.sock" in str(service["volumes"])}
    assert with_socket == {"docker-proxy"}
    allowed = {name for name, value in SERVICES["docker-proxy"]["environment"].items() if value}
    assert allowed == {"CONTAINERS", "POST"}


def test_only_what_people_and_programs_ask_is_published_and_only_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"webserver", "viewer", "api"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert "--read-only" in SERVICES["viewer"]["command"]
    assert "--read-only" not in SERVICES["webserver"]["command"]


def test_runs_join_the_network_and_the_volume_of_the_roles() -> None:
    environment = SERVICES["daemon"]["environment"]
    assert COMPOSE["networks"]["kb"]["name"] == environment["KB_DOCKER_NETWORK"]
    home = COMPOSE["volumes"]["kb_home"]["name"]
    assert environment["KB_RUN_VOLUMES"].startswith(f"{home}:{environment['KB_HOME']},")


def commands() -> Iterator[list[str]]:
    for role in ROLES:
        yield SERVICES[role]["command"]
        yield SERVICES[role]["healthcheck"]["test"][1:]


def test_the_programs_that_are_named_are_those_of_the_image() -> None:
    for program, *arguments in commands():
        assert (BIN / program).exists(), program
        options = [argument for argument in arguments if argument.startswith("--")]
        if options:  # they are options of that very command
            words = []
            for argument in arguments:
                if argument.startswith("--"):
                    break
                words.append(argument)
            told = run(str(BIN / program), *words, "--help").stdout
            assert all(option in told for option in options), (program, options)


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    done = run(str(BIN / "hadolint"), "Dockerfile")
    assert done.returncode == 0, done.stdout


def test_the_image_runs_as_the_user_that_the_roles_are() -> None:
    [user] = re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE)
    assert {SERVICES[role]["user"] for role in ROLES} == {user}
    assert user.split(":")[1] == str(IMAGE_GROUP)


def test_the_image_has_what_the_roles_name() -> None:
    brought = re.search(r"^COPY (.+) /opt/dagster/$", DOCKERFILE, re.MULTILINE)
    assert brought
    files = {Path(name).name for name in brought[1].split()}
    for role in ROLES:
        named = re.findall(r"/opt/dagster/([\w.]+)", json.dumps(SERVICES[role]))
        assert set(named) <= files
    assert all((ROOT / name).is_file() and not (ROOT / name).is_symlink() for name in brought[1].split())
    extras = re.search(r'"\.\[([\w,]+)\$\{EXTRAS:\+,\$EXTRAS\}\]"', DOCKERFILE)
    assert extras
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(extras[1].split(",")) == set(project["optional-dependencies"]) - {"dev", "torch"}
    [torch] = [name for name in project["optional-dependencies"]["torch"] if name.startswith("torch")]
    assert f'--index-url https://download.pytorch.org/whl/cpu "{torch}"' in DOCKERFILE


def test_what_the_image_copies_is_not_ignored() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for copied in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        for name in copied.split():
            assert any(name == kept or name.startswith(f"{kept}/") for kept in allowed), name


def test_the_seccomp_profile_differs_from_dockers_in_letting_name_spaces_be_made() -> None:
    profile = json.loads((ROOT / "deploy/seccomp.json").read_text())
    assert profile["defaultAction"] == "SCMP_ACT_ALLOW"
    [denied] = profile["syscalls"]
    assert denied["action"] == "SCMP_ACT_ERRNO"
    assert {"mount", "ptrace", "bpf", "kexec_load", "keyctl", "setns"} <= set(denied["names"])
    assert not {"clone", "clone3", "unshare"} & set(denied["names"])
