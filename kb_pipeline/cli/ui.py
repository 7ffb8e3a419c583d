"""`kb ui` and `kb up`: web UI, daemon, code server and the HTTP service, each started again when it dies.

Not `dagster dev`: that ends with its daemon, and behind its proxy a code server that died is never started again, with
which all sensors stop.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kb_pipeline.cli.terminal import err
from kb_pipeline.defs.instance import prepare_dagster_home
from kb_pipeline.errors import Unhealthy
from kb_pipeline.processes import SAFE_PYTHON, die_with_parent
from kb_pipeline.settings import Settings

_HOST = "127.0.0.1"
_LOCATION = "kb_pipeline.definitions"
_SHORT_LIFE_S = 60.0
"""A process that ends by itself sooner than this is not started again: it would end again."""
_PAUSE_S = 1.0
_REACHED_AT = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what listens everywhere is asked on this machine
_END_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class HttpService:
    """Where `kb serve` listens beside the web UI."""

    host: str
    port: int
    workers: int

    @property
    def command(self) -> list[str]:
        """Return what it is started with."""
        where = ["--host", self.host, "--port", str(self.port)]
        return ["kb_pipeline", "serve", *where, "--workers", str(self.workers)]


def serve(settings: Settings, port: int, http: HttpService | None = None) -> None:
    """Run the web UI, daemon and code server until Ctrl-C or SIGTERM, and the HTTP service if it is wanted.

    Raises:
        Unhealthy: one of them cannot be started.
    """
    environment = os.environ | {"DAGSTER_HOME": str(prepare_dagster_home(settings)), "KB_HOME": str(settings.home)}
    _check_port(_HOST, port)
    addresses = {f"Dagster's web UI: http://{_HOST}:{port}": (_HOST, port)}
    if http is not None:
        _check_port(http.host, http.port)
        shown = f"[{http.host}]" if ":" in http.host else http.host
        addresses[f"HTTP service: http://{shown}:{http.port}/api/v1"] = (http.host, http.port)
    for signum in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: what was started in the background ignores it
        signal.signal(signum, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="kb-ui-") as folder:  # other users must not reach the code server
        door, workspace = Path(folder) / "code-server", Path(folder) / "workspace.yaml"
        where = {"grpc_server": {"socket": str(door), "location_name": _LOCATION}}
        workspace.write_text(json.dumps({"load_from": [where]}))  # JSON is YAML
        server = ["dagster", "api", "grpc", "--socket", str(door), "--module-name", _LOCATION]
        web = ["dagster_webserver", "--host", _HOST, "--port", str(port), "--workspace", str(workspace)]
        services = [Service("code server", server, environment)]
        try:
            if http is not None:
                services.append(Service("HTTP service", http.command, environment))
            while not door.exists():  # the daemon, if it asks too early, tries again only after a minute
                for service in services:
                    service.revive()
                time.sleep(_PAUSE_S / 4)
            services.append(Service("web UI", web, environment))
            services.append(Service("daemon", ["dagster._daemon", "run", "--workspace", str(workspace)], environment))
            while True:
                for service in services:
                    service.revive()
                for line in [each for each, where in addresses.items() if _answers(*where)]:
                    err.print(line, markup=False)
                    del addresses[line]
                time.sleep(_PAUSE_S)
        except KeyboardInterrupt:
            err.print("ending")
        finally:
            end(services)


def _check_port(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Unhealthy(f"port {port} of {host} cannot be used ({error.strerror}); give another") from error


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((_REACHED_AT.get(host, host), port), timeout=_PAUSE_S).close()
    except OSError:
        return False
    return True


class Service:
    """A process that is started again whenever it ends."""

    def __init__(self, name: str, module: Sequence[str], environment: Mapping[str, str]) -> None:
        self._name, self._environment = name, environment
        self._command = [*SAFE_PYTHON, "-m", *module]
        self._start()

    def revive(self) -> None:
        """Start it again if it was killed or ended; raises Unhealthy when it ended by itself right after a start."""
        if (status := self.process.poll()) is None:
            return
        if status >= 0 and time.monotonic() - self._started < _SHORT_LIFE_S:
            raise Unhealthy(f"the {self._name} ended with status {status} right after its start")
        err.print(f"the {self._name} ended with status {status}; starting it again")
        self._start()

    def _start(self) -> None:
        parent = os.getpid()
        self._started = time.monotonic()
        self.process = subprocess.Popen(
            self._command, env=self._environment, preexec_fn=lambda: die_with_parent(signal.SIGTERM, parent)
        )


def end(services: Iterable[Service]) -> None:
    """Terminate all processes, then kill those that are left; the workers of runs go on to their end."""
    processes = [service.process for service in services]
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _END_WAIT_S
    for process in processes:
        try:
            process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
