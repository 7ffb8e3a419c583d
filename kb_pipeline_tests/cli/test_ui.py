"""What `kb ui` keeps running; the whole of it is killed in defs/test_reaper.py."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kb_pipeline.cli.ui import Service, end
from kb_pipeline.errors import Unhealthy
from kb_pipeline_tests.kb import Kb

SERVER = ["http.server", "--bind", "127.0.0.1", "0"]


def wait_until(is_so: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_dies_is_started_again_and_everything_ends_in_the_end() -> None:
    service = Service("server", SERVER, os.environ)
    first = service.process
    service.revive()
    assert service.process is first
    first.kill()
    first.wait()
    service.revive()
    assert service.process is not first
    end([service])
    assert service.process.poll() is not None


def test_what_ends_by_itself_right_after_its_start_is_a_fault() -> None:
    service = Service("poem", ["this"], os.environ | {"PYTHONUNBUFFERED": "1"})
    service.process.wait()
    with pytest.raises(Unhealthy, match="poem ended with status 0"):
        service.revive()


def ignore_signals() -> None:
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)


@pytest.mark.parametrize("begin", [None, ignore_signals], ids=["by hand", "in a script's background"])
def test_services_end_with_whoever_keeps_them_running(tmp_path: Path, begin: Callable[[], None] | None) -> None:
    code = (
        "import os, time; from kb_pipeline.cli.ui import Service\n"
        f"print(Service('server', {SERVER!r}, os.environ).process.pid, flush=True); time.sleep(600)"
    )
    keeper = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path, preexec_fn=begin
    )
    assert keeper.stdout
    pid = int(keeper.stdout.readline())
    keeper.kill()
    keeper.wait()
    wait_until(lambda: not (stat := Path(f"/proc/{pid}/stat")).exists() or stat.read_text().split()[2] == "Z")


def test_a_taken_port_is_said(kb: Kb) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = kb("ui", "--port", str(taken.getsockname()[1]))
    assert done.status == 1
    assert "cannot be used" in done.err
