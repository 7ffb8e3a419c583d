"""`kb build`: an ordinary Dagster run in a child process, its progress shown from the control plane."""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kb_pipeline.cli.output import err
from kb_pipeline.control.coordination.leases import current_lease
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.runs.heartbeats import database_time, give_up, take_from_dead
from kb_pipeline.control.runs.refreshes import RefreshRecord, get_refresh
from kb_pipeline.control.tenancy.tenants import require_active
from kb_pipeline.errors import LeaseHeld
from kb_pipeline.model import KbKey
from kb_pipeline.processes import SAFE_PYTHON
from kb_pipeline.settings import Settings

if TYPE_CHECKING:
    from rich.progress import Progress

_POLL_S = 0.2
_CANCEL_WAIT_S = 60
EXIT_STATUS = {"ready": 0, "ready_with_warnings": 0, "unchanged": 0, "failed": 1, "held": 3, "snoozed": 4}


def run_refresh(settings: Settings, db: Database, key: KbKey, *options: str) -> dict[str, Any]:
    """Refresh a KB through Dagster and wait for it; returns what `kb build` prints.

    Wishes are `force` and `retry`.

    Raises:
        TenantInactive: the tenant is suspended, or being deleted; nothing was started.
        LeaseHeld: another run writes the KB; nothing was started.
    """
    require_active(db, key.tenant)
    _wait_for_lease(db, key)
    run_id, started = str(uuid.uuid4()), time.monotonic()
    log = settings.logs_dir / f"{run_id}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        child = subprocess.Popen(
            [*SAFE_PYTHON, "-m", "kb_pipeline.defs.launch", str(key), run_id, str(os.getpid()), *options],
            stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=os.environ | {"KB_HOME": str(settings.home)},
        )  # fmt: skip
        try:
            _watch(child, db, key, run_id)
        except KeyboardInterrupt:
            _end_for_dead(db, key, run_id, "cancelled")
            raise
    _end_for_dead(db, key, run_id, _last_words(log))
    result = _result(key, run_id, get_refresh(db, key, run_id), log)
    if result["status"] != "failed":
        log.unlink()  # Dagster has the run's events; the file is for a worker that died
    return result | {"seconds": round(time.monotonic() - started, 2)}


def _wait_for_lease(db: Database, key: KbKey) -> None:
    """Take the lease of a run whose process is gone, or wait until it has run out; a renewed one is a living run's."""
    first = current_lease(db, key)
    if first is not None:
        err.print(f"run {first.owner} holds the lease; waiting to see whether it is alive", markup=False)
    while (lease := current_lease(db, key)) is not None:
        if take_from_dead(db, lease.owner):
            continue
        if first is None or lease.expires_at > first.expires_at:
            raise LeaseHeld(key, lease.owner, lease.expires_at - database_time(db))
        time.sleep(_POLL_S)


def _watch(child: subprocess.Popen[bytes], db: Database, key: KbKey, run_id: str) -> None:
    """Show progress until the child ends; Ctrl-C goes to the child too, which drains and ends by itself."""
    try:
        with _progress() as show:
            while child.poll() is None:
                if row := get_refresh(db, key, run_id):
                    show(row)
                time.sleep(_POLL_S)
            if row := get_refresh(db, key, run_id):
                show(row)
    except KeyboardInterrupt:
        err.print("cancelling; what was fetched is kept")
        try:
            child.wait(_CANCEL_WAIT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        raise


def _end_for_dead(db: Database, key: KbKey, run_id: str, message: str) -> None:
    """End the refresh of a worker that is dead and did not say how it ended: killed, or interrupted between two steps.

    Who started it knows that it is dead: `kb status` says `failed` and the lease is free without a reaper.
    """
    row = get_refresh(db, key, run_id)
    if row is None or row.status == "running":
        give_up(db, run_id, None, message)


def _last_words(log: Path) -> str:
    tail = log.read_text(errors="replace").strip().splitlines()[-1:]
    return f"the run's worker died; its output is in {log}" + (f": {tail[0]}" if tail else "")


def _result(key: KbKey, run_id: str, row: RefreshRecord | None, log: Path) -> dict[str, Any]:
    result = {"kb": str(key), "run_id": run_id}
    if row is None:
        return result | {"status": "failed", "version": None, "stages": {}, "message": _last_words(log)}
    return result | {
        "status": row.status,
        "version": row.version,
        "stages": row.stages,
        "message": row.message,
    }


class _Show(Protocol):
    def __call__(self, row: RefreshRecord) -> None: ...


@contextmanager
def _progress() -> Iterator[_Show]:
    if not err.is_terminal:
        yield _Lines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<6}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=err) as progress:
        yield _Bars(progress)


class _Lines:
    """Without a terminal: one line when a stage ends."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, row: RefreshRecord) -> None:
        for stage, report in row.stages.items():
            if stage not in self._said:
                self._said.add(stage)
                err.print(f"{stage}: {report['out']} of {report['in']} in {report['seconds']:.1f} s")


class _Bars:
    """One bar a stage: done/total, rate, time left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, Any] = {}

    def __call__(self, row: RefreshRecord) -> None:
        for stage, report in row.stages.items():
            self._show(stage, report["in"], max(report["in"], 1), report["seconds"])
        if row.stage and row.stage_started_at and row.stage not in row.stages:
            seconds = time.time() - row.stage_started_at.timestamp()
            self._show(row.stage, row.done, row.total, seconds)

    def _show(self, stage: str, done: int, total: int | None, seconds: float) -> None:
        if stage not in self._bars:
            self._bars[stage] = self._progress.add_task(stage, total=None, rate="")
        rate = f"{done / seconds:,.0f}/s" if seconds > 0 else ""
        self._progress.update(self._bars[stage], completed=done, total=total, rate=rate)
