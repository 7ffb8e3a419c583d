"""A stand-in for a Docker engine: the HTTP calls that docker-py makes to launch a run, each container a child process.

A container gets what its image holds and the environment that was passed, nothing else of this process: what a launcher
forgot to pass is missing here too. It isolates nothing.
"""

from __future__ import annotations

import re
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kb_pipeline_tests.deploy.json_api import serve_json


class Container:
    """One container: what it was asked to be, and its process once it was started."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.id, self.spec = uuid.uuid4().hex, spec
        self.stop_timeout_s: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What was passed to it."""
        return dict(item.split("=", 1) for item in self.spec["Env"])

    def start(self, image: Mapping[str, str], log: Path) -> None:
        for bind in self.spec["HostConfig"]["Binds"]:
            source, target, _ = bind.split(":")
            assert source == target, "a child process sees the same paths as this one"
            assert Path(source).exists()
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                self.spec["Cmd"], env={**image, **self.environment}, stdout=out, stderr=out, cwd="/"
            )

    def stop(self, timeout_s: int) -> None:
        assert self._process is not None
        self.stop_timeout_s = timeout_s
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def wait(self, timeout_s: float) -> int:
        """Its exit status."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    @property
    def state(self) -> dict[str, Any]:
        status = self._process.poll() if self._process else None
        name = "created" if self._process is None else "running" if status is None else "exited"
        return {"Status": name, "Running": name == "running", "ExitCode": status or 0}


class Engine:
    """The engine's containers by id, in the order they were made; `calls` are its answers to (method, path)."""

    def __init__(self, image: Mapping[str, str], logs: Path) -> None:
        self.image, self.logs = image, logs
        self.containers: dict[str, Container] = {}
        self.calls: list[tuple[str, str]] = []
        self.url = ""

    def answer(self, method: str, path: str, query: Mapping[str, list[str]], body: Any) -> tuple[int, Any]:
        path = re.sub(r"^/v\d\.\d+", "", path)
        self.calls.append((method, re.sub(r"[0-9a-f]{32}", "ID", path)))
        match method, path.strip("/").split("/"):
            case "GET", ["version"]:
                return 200, {"ApiVersion": "1.44", "MinAPIVersion": "1.24", "Version": "stand-in"}
            case "POST", ["containers", "create"]:
                container = Container(body)
                self.containers[container.id] = container
                return 201, {"Id": container.id, "Warnings": []}
            case _, ["containers", identity, action] if identity in self.containers:
                return self._act(method, self.containers[identity], action, query)
        return 404, {"message": f"the stand-in knows no {method} {path}"}

    def _act(self, method: str, container: Container, action: str, query: Mapping[str, list[str]]) -> tuple[int, Any]:
        match method, action:
            case "GET", "json":
                return 200, {"Id": container.id, "State": container.state, "Config": container.spec}
            case "POST", "start":
                container.start(self.image, self.logs / f"{container.id}.log")
                return 204, None
            case "POST", "stop":
                container.stop(int(query.get("t", ["10"])[0]))
                return 204, None
        return 404, {"message": f"the stand-in knows no {method} {action}"}

    def log(self, container: Container) -> str:
        return (self.logs / f"{container.id}.log").read_text(errors="replace")


@contextmanager
def serve_engine(image: Mapping[str, str], logs: Path) -> Iterator[Engine]:
    """Start an engine on a free loopback port; kill what still runs at the end."""
    engine = Engine(image, logs)
    try:
        with serve_json(engine.answer) as port:
            engine.url = f"tcp://127.0.0.1:{port}"
            yield engine
    finally:
        for container in engine.containers.values():
            container.kill()
