"""Events of a real refresh, followed through a real `kb serve`, while both are killed on the way."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from kb_pipeline.control.runs.heartbeats import give_up
from kb_pipeline.control.runs.jobs import get_job
from kb_pipeline.settings import as_environment
from kb_pipeline_tests import warm
from kb_pipeline_tests.operations.home import Home
from kb_pipeline_tests.service.serving import API, DOCS, key_of, served
from kb_pipeline_tests.site import Site

DEADLINE_S = 240


class Follower:
    """A client that begins again after whatever it received last, as often as it is cut off."""

    def __init__(self, address: Callable[[], str], job: str, key: str, read: Callable[..., Iterator[Any]]) -> None:
        self.events: list[dict[str, Any]] = []
        self.begun = 0
        self._address, self._job, self._key, self._read = address, job, key, read
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), self.events[-3:]

    def wait_for(self, type_: str, times: int = 1) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while sum(event["type"] == type_ for event in list(self.events)) < times:
            assert time.monotonic() < deadline, self.events
            time.sleep(0.02)

    def _follow(self) -> None:
        while not (self.events and self.events[-1]["type"] == "ended"):
            self.begun += 1
            after = self.events[-1]["id"] if self.events else 0
            try:
                for event in self._read(self._address(), self._job, self._key, after):
                    self.events.append(event)
            except (httpx2.HTTPError, WebSocketException, OSError):
                pass  # it was killed
            time.sleep(0.1)


def by_sse(address: str, job: str, key: str, after: int) -> Iterator[Any]:
    headers = {"Authorization": f"Bearer {key}", "Last-Event-ID": str(after)}
    with httpx2.stream("GET", f"{address}{API}/jobs/{job}/events", headers=headers, timeout=60) as answer:
        assert answer.status_code == 200
        yield from (json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: "))


def by_socket(address: str, job: str, key: str, after: int) -> Iterator[Any]:
    url = f"{address.replace('http', 'ws')}{API}/jobs/{job}/ws?after={after}"
    with connect(url, additional_headers={"Authorization": f"Bearer {key}"}) as opened:
        yield from (json.loads(message) for message in opened)


def test_no_event_is_lost_or_told_twice_when_service_and_run_are_killed(
    tmp_path: Path, models_dir: Path, site: Site
) -> None:
    home = Home(tmp_path / "home", models_dir)
    home.apply(site, source={"delay_s": 0.5})
    key = key_of(home)
    environment = os.environ | as_environment(home.settings)
    with ExitStack() as stack:
        address, process = stack.enter_context(served(home, "--workers", "2"))
        now = {"address": address}
        asked = httpx2.post(
            f"{address}{API}/kbs/acme.docs/jobs", headers={"Authorization": f"Bearer {key}"}, timeout=60
        )
        job = asked.json()["job_id"]
        followers = [Follower(lambda: now["address"], job, key, read) for read in (by_sse, by_socket, by_sse)]
        run = warm.start("kb_pipeline_tests.crash.refresh_once", [str(DOCS), "run-1", job], environment)
        followers[0].wait_for("stage_started")
        _kill(process.pid)
        now["address"], _ = stack.enter_context(served(home, "--workers", "2"))
        run.send_signal(signal.SIGKILL)
        run.communicate()
        assert give_up(home.db, "run-1", None, "the run's worker is dead", is_tried_again=True)
        followers[0].wait_for("interrupted")
        again = warm.start("kb_pipeline_tests.crash.refresh_once", [str(DOCS), "run-2", job], environment)
        for follower in followers:
            follower.wait()
        assert again.communicate()[1] == ""
    ended = get_job(home.db, "acme", job)
    assert (ended.state, ended.version, ended.run_id) == ("ready", 1, "run-2")
    for follower in followers:
        assert [event["id"] for event in follower.events] == list(range(1, ended.last_event + 1))
        assert follower.events == followers[0].events
        assert follower.begun > 1
    types = [event["type"] for event in followers[0].events]
    assert (types[0], types[-1], types.count("started"), types.count("interrupted")) == ("queued", "ended", 2, 1)


def test_a_service_that_is_told_to_end_ends_its_streams_and_ends(tmp_path: Path, models_dir: Path, site: Site) -> None:
    home = Home(tmp_path / "home", models_dir)
    home.apply(site)
    key = key_of(home)
    with served(home) as (address, process):
        headers = {"Authorization": f"Bearer {key}"}
        job = httpx2.post(f"{address}{API}/kbs/acme.docs/jobs", headers=headers, timeout=60).json()["job_id"]
        with (
            httpx2.stream("GET", f"{address}{API}/jobs/{job}/events", headers=headers, timeout=60) as answer,
            connect(f"{address.replace('http', 'ws')}{API}/jobs/{job}/ws", additional_headers=headers) as opened,
        ):
            lines = answer.iter_lines()
            assert next(lines) == "id: 1"
            assert json.loads(opened.recv())["type"] == "queued"
            process.send_signal(signal.SIGTERM)
            assert "event: queued" in list(lines), "the stream ends as one that is whole"
            with pytest.raises(WebSocketException):
                opened.recv()
        process.wait(25)
        assert process.stderr is not None
        assert process.stderr.read() == ""


def _kill(pid: int) -> None:
    """Kill a process and its children at once."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for each in (pid, *map(int, children)):
        os.kill(each, signal.SIGKILL)
