"""The roles of docker-compose.yml, really started: its commands, environment and health checks, but no engine."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.runs.status import describe_kb
from kb_pipeline.settings import load_settings
from kb_pipeline_tests.deploy.engine import serve_engine
from kb_pipeline_tests.deploy.roles import KEY, apply_kb, wait_until
from kb_pipeline_tests.site import Site

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]

pytestmark = pytest.mark.slow


class Deployment:
    """Processes in place of containers: each sees what its image would hold and what Compose gives it."""

    def __init__(self, folder: Path, places: dict[str, str], engine_url: str) -> None:
        self.folder, self.opt = folder, folder / "opt"
        self.opt.mkdir()
        for name in ("kb_pipeline/defs/dagster.yaml", "deploy/seccomp.json"):
            (self.opt / Path(name).name).write_bytes((ROOT / name).read_bytes())
        self.ports = dict(zip(("code", "webserver", "viewer"), map(str, free_ports(3)), strict=True))
        workspace = (ROOT / "deploy/workspace.yaml").read_text()
        workspace = workspace.replace("host: code", "host: 127.0.0.1").replace("4000", self.ports["code"])
        (self.opt / "workspace.yaml").write_text(workspace)
        self.image = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "DAGSTER_HOME": str(self.opt),
            "HOME": str(folder),
        }
        self._places = {**places, "/opt/dagster": str(self.opt), "tcp://docker-proxy:2375": engine_url}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def environment(self, role: str) -> dict[str, str]:
        """Return the role's environment by Compose and .env.example, with paths that exist here."""
        example = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
        given = {}
        for name, value in SERVICES[role]["environment"].items():
            given[name] = self._here(re.sub(r"\$\{(\w+)[^}]*\}", lambda match: example[match[1]], str(value)))
        return self.image | given | {"KB_ALLOW_PRIVATE_NETWORKS": "127.0.0.0/8"}

    def start(self, role: str) -> None:
        with (self.folder / f"{role}.log").open("wb") as log:
            command = [self._here(self._port(role, word)) for word in SERVICES[role]["command"]]
            self._processes[role] = subprocess.Popen(
                command, env=self.environment(role), cwd=self.opt, stdout=log, stderr=log, start_new_session=True
            )

    def is_well(self, role: str) -> bool:
        """Return whether its health check succeeds."""
        assert self._processes[role].poll() is None, self.log(role)
        test = [self._port(role, word) for word in SERVICES[role]["healthcheck"]["test"][1:]]
        return subprocess.run(test, env=self.environment(role), cwd=self.opt, capture_output=True).returncode == 0

    def log(self, role: str) -> str:
        return (self.folder / f"{role}.log").read_text(errors="replace")[-5000:]

    def stop(self) -> None:
        for process in reversed(self._processes.values()):
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _port(self, role: str, word: str) -> str:
        return re.sub(r"\b(3000|4000)\b", self.ports.get(role, ""), word)

    def _here(self, value: str) -> str:
        there = "|".join(map(re.escape, self._places))
        return re.sub(rf"({there})(?!\w)", lambda match: self._places[match[1]], value)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture
def deployment(
    home: Path, models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_postgres: str
) -> Iterator[Deployment]:
    secret = tmp_path / "database_url"
    secret.write_text(fresh_postgres)
    monkeypatch.delenv("KB_DATABASE_URL", raising=False)
    monkeypatch.setenv("KB_DATABASE_URL_FILE", str(secret))
    # The volumes, and the mounts of runs, lead to one place outside and inside.
    places = {
        "kb_home:/data": f"{home}:{home},{models_dir}:{models_dir}",
        "/srv/kb/secrets/database_url": str(secret),
        "/run/secrets/database_url": str(secret),
        "/data": str(home),
    }
    with serve_engine({}, tmp_path) as engine:
        deployment = Deployment(tmp_path, places, engine.url)
        engine.image = deployment.image
        try:
            yield deployment
        finally:
            deployment.stop()


def ask(port: str, query: str) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def test_the_roles_come_up_well_and_a_new_kb_is_refreshed_in_a_container(deployment: Deployment, site: Site) -> None:
    database = Database(load_settings().database_url)
    apply_kb(site.url)
    deployment.start("code")
    wait_until(lambda: deployment.is_well("code"))
    for role in ("webserver", "viewer", "daemon"):
        deployment.start(role)
    for role in ("webserver", "viewer", "daemon"):
        wait_until(lambda role=role: deployment.is_well(role))  # type: ignore[misc]
    try:
        wait_until(lambda: describe_kb(database, KEY).live_version == 1, 120)
    except TimeoutError:
        pytest.fail(deployment.log("daemon") + deployment.log("code"))

    delete = 'mutation { deleteRun(runId: "none-such") { __typename } }'
    assert ask(deployment.ports["webserver"], delete) == {"data": {"deleteRun": {"__typename": "RunNotFoundError"}}}
    assert ask(deployment.ports["viewer"], delete) == {"data": {"deleteRun": {"__typename": "UnauthorizedError"}}}
    # Nothing but the home is written to; the uploader of Dagster's telemetry, which is off, tries and does without.
    written = {path.name for path in deployment.opt.iterdir()} - {"dagster.yaml", "seccomp.json", "workspace.yaml"}
    assert written <= {"logs", ".logs_queue"}
