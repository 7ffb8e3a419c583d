"""Who executes which run, and whether that process is alive: the only proof on which a run is given up.

A run writes its heartbeat from its first moment to its last, whether it works, waits for a pool slot or for a lease.
On the machine where it runs the process itself is looked at: it is there, however slow or stopped, or it is gone.
From another machine only its beats can be heard. They are times of one clock, the database's, since machines' clocks
differ; and silence counts only when it is still there at a second look, since a clock may jump and everything may have
been suspended together.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from sqlalchemy import delete, select, update
from sqlalchemy.exc import OperationalError

from kb_pipeline.control.coordination.leases import revoke_leases
from kb_pipeline.control.db.engine import Database, database_now
from kb_pipeline.control.db.models import Heartbeat
from kb_pipeline.control.runs.refreshes import RefreshStatus, end_interrupted
from kb_pipeline.processes import is_running, name_process, this_machine

BEAT_S = 5.0
"""Well below the time between two looks, so that a living worker beats in between."""
SILENT_S = 25.0
"""After so long without a beat a worker elsewhere is silent. The reaper looks every 15 s and twice: with its first look
and its second, a dead one is given up within 60 s."""
DAEMON_SILENT_S = 120.0
"""After so long the daemon is taken to be away: with the code server it evaluates a sensor every 15 s."""
_DAEMON = "daemon"
"""In place of a run's id, where the daemon's own sign of life is kept. No run has such an id."""
WorkerState = Literal["alive", "silent", "gone"]


@contextmanager
def beating(db: Database, run_id: str, every_s: float = BEAT_S) -> Iterator[None]:
    """Give signs of life for a run for as long as the block runs.

    The last one stays behind: what is left to do is to tell Dagster how the run ended.
    """
    _begin(db, run_id)
    stop = threading.Event()
    heart = threading.Thread(target=_beat, args=(db, run_id, stop, every_s), name=f"heart {run_id}", daemon=True)
    heart.start()
    try:
        yield
    finally:
        stop.set()
        heart.join()


def list_heartbeats(db: Database) -> list[Heartbeat]:
    """Return the heartbeats of all runs that have not been ended yet."""
    with db.read_all() as session:
        query = select(Heartbeat).where(Heartbeat.run_id != _DAEMON).order_by(Heartbeat.run_id)
        return list(session.scalars(query))


def get_heartbeat(db: Database, run_id: str) -> Heartbeat | None:
    """Return the heartbeat of a run, or None."""
    with db.read_all() as session:
        return session.get(Heartbeat, run_id)


def judge(beat: Heartbeat, now: float, silent_after_s: float = SILENT_S) -> WorkerState:
    """Whether the worker is alive: `gone` is proven, `silent` is to be looked at again."""
    if beat.process and beat.machine and beat.machine == this_machine():
        return "alive" if is_running(beat.process) else "gone"
    return "silent" if now - beat.beat_at > silent_after_s else "alive"


def give_up(
    db: Database,
    run_id: str,
    beat_at: float | None,
    message: str,
    status: RefreshStatus = "failed",
    *,
    is_tried_again: bool = False,
) -> bool:
    """Take everything from a dead worker in one transaction: its leases, with a new token, and its refresh.

    Args:
        db: the control plane.
        run_id: the worker's run.
        beat_at: the sign of life on which it was judged, None when it never gave one.
        message: why the refresh ends.
        status: how it ends: `failed` or `cancelled`.
        is_tried_again: whether another run may take its place, so that its job has not ended.

    Returns:
        False if it has given another sign of life since; then nothing is done.
    """
    with db.write_all() as session:
        if beat_at is not None:
            last = session.get(Heartbeat, run_id, with_for_update=True)
            if last is None or last.beat_at != beat_at:
                return False
            session.execute(delete(Heartbeat).where(Heartbeat.run_id == run_id))
        revoke_leases(session, run_id)
        end_interrupted(session, run_id, message, status, is_tried_again=is_tried_again)
    return True


def take_from_dead(db: Database, run_id: str) -> bool:
    """Free the leases of a run at once if its process is gone; the run itself is left to the reaper."""
    beat = get_heartbeat(db, run_id)
    if beat is None or judge(beat, beat.beat_at) != "gone":
        return False
    with db.write_all() as session:
        revoke_leases(session, run_id)
    return True


def note_daemon(db: Database) -> None:
    """Record that the daemon, and the code server that it asked, are alive."""
    _begin(db, _DAEMON)


def daemon_silence_s(db: Database) -> float | None:
    """Return the seconds since the daemon's last sign of life; None if it never gave one."""
    with db.read_all() as session:
        beat = session.get(Heartbeat, _DAEMON)
        return None if beat is None else database_now(session) - beat.beat_at


def database_time(db: Database) -> float:
    """Unix time by the one clock that all machines share."""
    with db.read_all() as session:
        return database_now(session)


def _begin(db: Database, run_id: str) -> None:
    with db.write_all() as session:
        now = database_now(session)
        process = name_process(os.getpid())
        session.merge(Heartbeat(run_id=run_id, machine=this_machine(), process=process, beat_at=now))


def _beat(db: Database, run_id: str, stop: threading.Event, every_s: float) -> None:
    is_last = False
    while not is_last:
        is_last = stop.wait(every_s)
        try:
            with db.write_all(durably=False) as session:
                now = database_now(session)
                # Never anew: a worker that was given up stays so.
                session.execute(update(Heartbeat).where(Heartbeat.run_id == run_id).values(beat_at=now))
        except OperationalError:
            continue  # a busy database: the next beat will do
