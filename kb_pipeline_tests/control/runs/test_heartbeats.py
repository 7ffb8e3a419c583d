"""Signs of life and giving up, on both databases; processes are named and recognized."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from kb_pipeline.control.coordination import leases
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.runs import refreshes
from kb_pipeline.control.runs.heartbeats import beating, get_heartbeat, give_up, list_heartbeats
from kb_pipeline.errors import LeaseLost
from kb_pipeline.model import KbKey
from kb_pipeline.processes import is_running, name_process, this_machine

KEY, OTHER = KbKey("acme", "docs"), KbKey("acme", "wiki")


def test_what_is_given_up_loses_all_its_leases_and_comes_back_by_no_beat(db: Database) -> None:
    held = [leases.acquire_lease(db, key, "dead") for key in (KEY, OTHER)]
    refreshes.begin_refresh(db, KEY, "dead")
    with beating(db, "alive"), beating(db, "dead", every_s=0.02):
        first = get_heartbeat(db, "dead")
        assert first
        deadline = time.monotonic() + 30
        while (beat := get_heartbeat(db, "dead")) and beat.beat_at == first.beat_at:
            assert time.monotonic() < deadline
        assert not give_up(db, "dead", first.beat_at, "the worker is dead")
        assert leases.current_lease(db, KEY)
        while not give_up(db, "dead", list_heartbeats(db)[-1].beat_at, "the worker is dead"):
            assert time.monotonic() < deadline
    assert [beat.run_id for beat in list_heartbeats(db)] == ["alive"]
    row = refreshes.get_refresh(db, KEY, "dead")
    assert row
    assert (row.status, row.message) == ("failed", "the worker is dead")
    for lease in held:
        assert leases.acquire_lease(db, lease.key, "heir").token > lease.token
        with db.read_all() as session, pytest.raises(LeaseLost):
            leases.verify_lease(session, lease)


def test_a_process_is_known_by_its_start_until_it_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = name_process(child.pid)
    assert this_machine()
    assert is_running(name)
    assert is_running(name_process(os.getpid()))
    assert not is_running(f"{child.pid}/1")  # another process had this id
    child.kill()
    deadline = time.monotonic() + 30
    while is_running(name):  # nobody has waited for it: a zombie is dead
        assert time.monotonic() < deadline
    child.wait()
    assert not is_running(name)
    assert name_process(child.pid) == ""
