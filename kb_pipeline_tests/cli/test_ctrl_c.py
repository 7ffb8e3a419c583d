"""Ctrl-C in `kb build`, at any moment: it ends as cancelled, says what is kept, and the record is right by then."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from kb_pipeline.control.coordination.leases import current_lease
from kb_pipeline.control.db.engine import Database
from kb_pipeline.model import KbKey
from kb_pipeline_tests.databases import control_url
from kb_pipeline_tests.kb import Kb
from kb_pipeline_tests.published import Published

KB = "acme/docs"
BEFORE_READERS_SEE_IT = (
    "raw.adopt", "pages.upsert.before", "documents.upsert.before", "embed.begun", "index.append.before",
    "settle.before", "publish.before",
)  # fmt: skip
AFTERWARDS = ("publish.after", "tidy.after")


@pytest.fixture
def changed(published: Published) -> Kb:
    """A KB whose next refresh makes its second version."""
    published.site.put("/plums", "Plums", "Plums are distilled into a clear brandy that is called slivovitz.")
    return published.kb


def start(kb: Kb, *command: str, **environment: str) -> subprocess.Popen[str]:
    """Start a command as a shell does on a terminal: in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "kb_pipeline", *(command or ("build", KB, "--json"))],
        cwd=kb.folder, env=os.environ | environment, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def press_ctrl_c(running: subprocess.Popen[str]) -> None:
    os.killpg(running.pid, signal.SIGINT)


def workers(running: subprocess.Popen[str]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()]


def wait_for_stopped_worker(running: subprocess.Popen[str]) -> int:
    """Return the process id of the worker once it has stopped itself at its failpoint."""
    while True:
        assert running.poll() is None, running.communicate()
        for pid in workers(running):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
                return pid
        time.sleep(0.05)


def let_go_interrupted(worker: int) -> None:
    """Let a stopped worker go on, once the Ctrl-C has been passed on to it: before, it might publish meanwhile."""
    pending = re.compile(r"^ShdPnd:\s*([0-9a-f]+)$", re.MULTILINE)
    while True:
        found = pending.search(Path(f"/proc/{worker}/status").read_text())
        assert found
        if int(found[1], 16) & 1 << signal.SIGINT - 1:
            break
        time.sleep(0.02)
    os.kill(worker, signal.SIGCONT)


def assert_free(kb: Kb) -> None:
    db = Database(control_url(kb.folder / "home"))
    assert current_lease(db, KbKey.parse(KB)) is None
    db.dispose()


def statuses(kb: Kb) -> Sequence[object]:
    found = kb("status", KB, "--json").json
    return found["status"], found["live_version"], found["running"]


@pytest.mark.parametrize("failpoint", BEFORE_READERS_SEE_IT)
def test_a_build_cancelled_in_any_stage_is_recorded_before_it_returns(changed: Kb, failpoint: str) -> None:
    running = start(changed, KB_FAILPOINT=failpoint, KB_FAILPOINT_SIGNAL="STOP")
    worker = wait_for_stopped_worker(running)
    press_ctrl_c(running)
    let_go_interrupted(worker)
    out, err = running.communicate(timeout=90)
    assert statuses(changed) == ("cancelled", 1, None)
    assert (running.returncode, json.loads(out)["status"]) == (130, "cancelled")
    assert "kb: acme/docs: cancelled; " in err
    assert "the live version is 1; kb build acme/docs goes on" in err
    assert "Traceback" not in err
    assert_free(changed)
    assert changed.build().json["status"] == "ready"


@pytest.mark.parametrize("failpoint", AFTERWARDS)
def test_ctrl_c_after_readers_see_the_version_finds_it_ready(changed: Kb, failpoint: str) -> None:
    running = start(changed, KB_FAILPOINT=failpoint, KB_FAILPOINT_SIGNAL="STOP")
    worker = wait_for_stopped_worker(running)
    press_ctrl_c(running)
    let_go_interrupted(worker)
    out, err = running.communicate(timeout=90)
    assert statuses(changed) == ("ready", 2, None), err
    assert (running.returncode, json.loads(out)["status"], json.loads(out)["version"]) == (0, "ready", 2)
    assert_free(changed)


@pytest.mark.parametrize(("failpoint", "status", "version"), [
    ("embed.begun", "cancelled", 1), ("publish.before", "cancelled", 1), ("publish.after", "ready", 2),
])  # fmt: skip
def test_a_second_ctrl_c_ends_it_at_once_and_the_record_is_right_as_well(
    changed: Kb, failpoint: str, status: str, version: int
) -> None:
    running = start(changed, KB_FAILPOINT=failpoint, KB_FAILPOINT_SIGNAL="STOP")
    worker = wait_for_stopped_worker(running)
    press_ctrl_c(running)
    while "cancelling" not in (line := running.stderr.readline() if running.stderr else "cancelling"):
        assert line
    press_ctrl_c(running)
    running.communicate(timeout=30)
    assert not Path(f"/proc/{worker}").exists()
    assert statuses(changed) == (status, version, None)
    assert_free(changed)


PRESSES_AGAIN_WHEN_ASKED = """
import logging, os, signal
from kb_pipeline import cli

def press(record):
    if "cancelling" in record.getMessage():
        os.kill(os.getpid(), signal.SIGINT)
    return True

logging.getLogger("kb_pipeline.operations.launch").addFilter(press)
cli.main()
"""


def test_a_second_ctrl_c_in_the_moment_it_is_offered_ends_the_worker_too(changed: Kb) -> None:
    running = subprocess.Popen(
        [sys.executable, "-c", PRESSES_AGAIN_WHEN_ASKED, "build", KB, "--json"], cwd=changed.folder,
        env=os.environ | {"KB_FAILPOINT": "embed.begun", "KB_FAILPOINT_SIGNAL": "STOP"}, start_new_session=True,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    worker = wait_for_stopped_worker(running)
    press_ctrl_c(running)
    running.communicate(timeout=30)
    assert not Path(f"/proc/{worker}").exists()
    assert statuses(changed) == ("cancelled", 1, None)
    assert_free(changed)


@pytest.mark.parametrize("after_s", [0.0, 0.3, 1.0, 2.0])
def test_a_build_cancelled_while_its_worker_starts_is_recorded(changed: Kb, after_s: float) -> None:
    running = start(changed)
    while not workers(running):
        time.sleep(0.01)
    time.sleep(after_s)
    press_ctrl_c(running)
    out, err = running.communicate(timeout=90)
    assert (running.returncode, json.loads(out)["status"]) == (130, "cancelled"), err
    assert statuses(changed) == ("cancelled", 1, None)
    assert "Traceback" not in err
    assert_free(changed)


def test_a_retry_is_cancelled_like_a_build(changed: Kb, published: Published) -> None:
    retry = ("retry", KB, f"{published.site.url}/plums")
    running = start(changed, *retry, KB_FAILPOINT="documents.upsert.before", KB_FAILPOINT_SIGNAL="STOP")
    worker = wait_for_stopped_worker(running)
    press_ctrl_c(running)
    let_go_interrupted(worker)
    _, err = running.communicate(timeout=90)
    assert (running.returncode, "kb: acme/docs: cancelled; 5 pages that were fetched are kept" in err) == (130, True), (
        err
    )
    assert statuses(changed) == ("cancelled", 1, None)
