"""Refreshes a KB as an ordinary Dagster run in a process of its own, and waits for it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kb_pipeline.control.coordination.leases import current_lease
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs.versions import live_manifest
from kb_pipeline.control.runs.heartbeats import database_time, give_up, take_from_dead
from kb_pipeline.control.runs.refreshes import (
    RefreshRecord,
    RefreshStatus,
    cancel_refresh,
    end_lost_refresh,
    end_refresh,
    get_refresh,
)
from kb_pipeline.control.tenancy.tenants import require_active
from kb_pipeline.errors import LeaseHeld, NoLiveVersion
from kb_pipeline.interrupts import deferred_interrupts
from kb_pipeline.model import JsonObject, KbKey, Record
from kb_pipeline.processes import SAFE_PYTHON
from kb_pipeline.settings import Settings, as_environment

logger = logging.getLogger(__name__)

_POLL_S = 0.2
_CANCEL_WAIT_S = 60
"""How long a cancelled run has to finish its requests and to store what it has, before it is killed."""
_MAX_RETRY_IDS = 64
"""Ids in the tag of a run: Dagster keeps tags in an index, whose entries Postgres limits to 2,704 bytes."""


@dataclass(frozen=True, slots=True)
class RefreshResult(Record):
    """How a refresh ended."""

    kb: KbKey
    run_id: str
    status: str
    """ready, ready_with_warnings, unchanged, held, snoozed, cancelled or failed."""
    version: int | None
    """The version that it published, left live or held."""
    stages: Mapping[str, JsonObject]
    """Stage name to the counts of its report, see StageReport.as_json."""
    message: str | None
    """The warnings, why it did not publish, or what is kept of it."""
    seconds: float

    @property
    def succeeded(self) -> bool:
        """Whether the live version is what the sources gave in this refresh."""
        return self.status in ("ready", "ready_with_warnings", "unchanged")


class RefreshCancelled(KeyboardInterrupt):
    """Ctrl-C ended a refresh; `result` says what is kept."""

    def __init__(self, result: RefreshResult) -> None:
        super().__init__(result.message)
        self.result = result


ProgressListener = Callable[[RefreshRecord], object]
"""Called with the state of a refresh while it runs."""


def run_refresh(
    settings: Settings,
    db: Database,
    key: KbKey,
    progress: ProgressListener | None = None,
    *,
    force: bool = False,
    retry: bool = False,
    retry_ids: Collection[str] = (),
) -> RefreshResult:
    """Refresh a KB through Dagster and wait for it.

    Args:
        settings: of the installation.
        db: its control plane.
        key: the KB.
        progress: called five times a second with the state of the refresh.
        force: publish also if a check that is a matter of judgement fails.
        retry: request pages that failed again, however often and recently they did.
        retry_ids: ids (model.document_id) of keys that are requested again so; more of them than a run's tag can hold
            mean all.

    Raises:
        TenantInactive: the tenant is suspended, or being deleted; nothing was started.
        LeaseHeld: another run writes the KB; nothing was started.
        RefreshCancelled: Ctrl-C; the run has ended, and what it fetched is kept. One that comes after the version was
            published changes nothing.
    """
    require_active(db, key.tenant)
    run_id, started = str(uuid.uuid4()), time.monotonic()
    try:
        _wait_for_lease(db, key)
    except KeyboardInterrupt:
        raise RefreshCancelled(_cancelled(db, key, run_id, started)) from None
    options = ["force"] * force + _retry_option(retry_ids, all_of_them=retry)
    log = settings.logs_dir / f"{run_id}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    child: subprocess.Popen[bytes] | None = None
    try:
        # Both are deferred until the child is known: it must not be left alone.
        with deferred_interrupts(), log.open("wb") as stream:
            child = subprocess.Popen(
                [*SAFE_PYTHON, "-m", "kb_pipeline.defs.launch", str(key), run_id, str(os.getpid()), *options],
                stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=os.environ | as_environment(settings),
                process_group=0,  # a terminal's Ctrl-C is for this process, which passes it on once
            )  # fmt: skip
        _watch(child, db, key, run_id, progress)
    except KeyboardInterrupt:
        since = datetime.now(UTC)
        try:  # here, not in the function: another Ctrl-C may arrive before its first line
            _end_gently(child, key)
        except KeyboardInterrupt:
            pass
        finally:
            _end_at_once(child, db, key, run_id, since)
        row = get_refresh(db, key, run_id)
        if row is None or row.status == "cancelled":
            log.unlink(missing_ok=True)
            raise RefreshCancelled(_cancelled(db, key, run_id, started)) from None
    _end_dead_run(db, key, run_id, _last_output(log))
    seconds = round(time.monotonic() - started, 2)
    row = get_refresh(db, key, run_id)
    if row is None:
        return RefreshResult(key, run_id, "failed", None, {}, _last_output(log), seconds)
    if row.status == "cancelled":  # in the web UI, or from another terminal
        return _cancelled(db, key, run_id, started)
    if row.status != "failed":
        log.unlink()  # Dagster has the run's events; the file is for a worker that died
    return RefreshResult(key, run_id, row.status, row.version, row.stages, row.message, seconds)


def _end_gently(child: subprocess.Popen[bytes] | None, key: KbKey) -> None:
    """Have the worker end and record it, and wait as long as that may take."""
    logger.warning("%s: cancelling; Ctrl-C once more ends it at once", key)
    if child is not None and child.poll() is None:
        child.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            child.wait(_CANCEL_WAIT_S)


def _end_at_once(
    child: subprocess.Popen[bytes] | None, db: Database, key: KbKey, run_id: str, cancelled_at: datetime
) -> None:
    """Kill the worker if it still runs, and record what it could not."""
    with deferred_interrupts():
        if child is not None and child.poll() is None:
            child.kill()
            child.wait()
        if (live := _live_version(db, key, run_id)) is not None:
            end_refresh(db, key, run_id, *live)  # killed between moving the pointer and recording it
        cancel_refresh(db, key, run_id, cancelled_at)
        give_up(db, run_id, None, "cancelled", "cancelled")  # its lease


def _live_version(db: Database, key: KbKey, run_id: str) -> tuple[RefreshStatus, int] | None:
    """Return how a refresh ended that has published a version and could not record it; None for all others."""
    row = get_refresh(db, key, run_id)
    if row is None or row.status != "running":
        return None
    with suppress(NoLiveVersion):
        live = live_manifest(db, key)
        if live.run_id == run_id:
            return "ready", live.version
    return None


def _cancelled(db: Database, key: KbKey, run_id: str, started: float) -> RefreshResult:
    """Return the result of a cancelled refresh: its message says what is kept, and what to do."""
    row, live = get_refresh(db, key, run_id), None
    with suppress(NoLiveVersion):
        live = live_manifest(db, key).version
    stands = "there is no live version yet" if live is None else f"the live version is {live}"
    message = f"{key}: cancelled; {_kept(row)}, {stands}; kb build {key} goes on"
    stages = row.stages if row else {}
    return RefreshResult(key, run_id, "cancelled", live, stages, message, round(time.monotonic() - started, 2))


def _kept(row: RefreshRecord | None) -> str:
    if row is None:
        return "it had not begun"
    # The counts of a stage that has ended, or else how far it was, if it was the first.
    pages = row.stages["fetch"]["out"] if "fetch" in row.stages else row.done
    return f"{pages:,} pages that were fetched are kept" if pages else "nothing had been fetched yet"


def _retry_option(ids: Collection[str], *, all_of_them: bool) -> list[str]:
    if all_of_them or len(ids) > _MAX_RETRY_IDS:
        return ["retry"]
    return [f"retry={','.join(sorted(ids))}"] if ids else []


def _end_dead_run(db: Database, key: KbKey, run_id: str, message: str) -> None:
    """End the refresh of a worker that died without recording how: killed, or interrupted between two steps.

    This process started it and knows that it is dead, so that `kb status` says `failed` and the lease is free without
    a reaper.
    """
    row = get_refresh(db, key, run_id)
    if row is None or row.status == "running":
        give_up(db, run_id, None, message)
    elif row.status == "failed":
        end_lost_refresh(db, key, run_id, "failed", row.message or message)  # its job, if it was to be tried again


def _last_output(log: Path) -> str:
    tail = log.read_text(errors="replace").strip().splitlines()[-1:]
    return f"the run's worker died; its output is in {log}" + (f": {tail[0]}" if tail else "")


def _wait_for_lease(db: Database, key: KbKey) -> None:
    """Take over the lease of a dead run, or wait until it expires; raise LeaseHeld when a living run renews it."""
    first = current_lease(db, key)
    if first is not None:
        logger.warning("run %s holds the lease; waiting to see whether it is alive", first.owner)
    while (lease := current_lease(db, key)) is not None:
        if take_from_dead(db, lease.owner):
            continue
        if first is None or lease.expires_at > first.expires_at:
            raise LeaseHeld(key, lease.owner, lease.expires_at - database_time(db))
        time.sleep(_POLL_S)


def _watch(
    child: subprocess.Popen[bytes], db: Database, key: KbKey, run_id: str, progress: ProgressListener | None
) -> None:
    """Report progress until the child ends."""
    while child.poll() is None:
        _report(get_refresh(db, key, run_id), progress)
        time.sleep(_POLL_S)
    _report(get_refresh(db, key, run_id), progress)


def _report(row: RefreshRecord | None, progress: ProgressListener | None) -> None:
    if row is not None and progress is not None:
        progress(row)
