"""How every refresh goes and went: progress while it runs, stage reports, the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from kb_pipeline.account import Account
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Refresh
from kb_pipeline.control.flags.registry import KNOWN_FLAGS, FlagValue
from kb_pipeline.control.metering import ledger
from kb_pipeline.interrupts import deferred_interrupts
from kb_pipeline.model import JsonObject, KbKey, Record, StageReport

RefreshStatus = Literal[
    "running", "ready", "ready_with_warnings", "unchanged", "held", "failed", "cancelled", "snoozed", "partial"
]
_WITHOUT_RESULT = ("failed", "cancelled")
"""What is recorded only of a refresh that has not ended otherwise: an interrupt may come after it was published."""
_PROGRESS_INTERVAL_S = 0.5
_LOOKED_THROUGH = 20
"""How many refreshes are looked through for the report of a stage: those that failed before it have none."""


@dataclass(frozen=True, slots=True)
class StageInProgress(Record):
    """How far a refresh that runs now is."""

    stage: str | None
    """None between two stages."""
    done: int
    total: int | None
    """Units of the stage's work; None while unknown."""
    eta_s: float | None
    """Seconds that the stage will still take at its pace so far."""


@dataclass(frozen=True, slots=True)
class RefreshRecord(Record):
    """One run over a KB and how it ended."""

    run_id: str
    status: str
    """running, ready, ready_with_warnings, unchanged, held, failed, cancelled, snoozed or partial; of a KB's last
    run also interrupted."""
    version: int | None
    """What it published, or found live."""
    message: str | None
    started_at: datetime
    ended_at: datetime | None
    stages: Mapping[str, JsonObject]
    """Stage name to the counts of its report, see StageReport.as_json."""
    stage: str | None = None
    """The stage that is being worked on."""
    done: int = 0
    total: int | None = None
    stage_started_at: datetime | None = None

    def as_json(self) -> JsonObject:
        """Return what `kb status` says of a KB's last run; progress is told apart, see `progress`."""
        ended = Record.as_json(self)
        for name in ("stage", "done", "total", "stage_started_at"):
            del ended[name]
        return ended

    @property
    def progress(self) -> StageInProgress | None:
        """How far it is; None when it has ended."""
        if self.status != "running":
            return None
        eta_s = None
        if self.stage_started_at and self.total and self.done:
            elapsed_s = (datetime.now(UTC) - self.stage_started_at).total_seconds()
            eta_s = round(elapsed_s / self.done * max(self.total - self.done, 0), 1)
        return StageInProgress(self.stage, self.done, self.total, eta_s)


def begin_refresh(
    db: Database, key: KbKey, run_id: str, read_flags: Callable[[], Mapping[str, FlagValue]] = dict
) -> tuple[dict[str, FlagValue], bool]:
    """Record that a run works on the KB; a later stage of the same run, or its retry, changes nothing.

    Args:
        db: the control plane.
        key: the KB.
        run_id: whose first stage it is, or a later one.
        read_flags: returns what the flags are now; called only where the run has not recorded all of them.

    Returns:
        The flags that hold for the whole run, which are those it began with; and whether it begins, or begins again.
    """
    with db.write(key.tenant) as session:
        row = session.get(Refresh, (key.tenant, key.kb, run_id))
        known = dict(row.flags or {}) if row else {}
        # A release that came amid the run may know more flags than the run began with.
        flags = known if KNOWN_FLAGS.keys() <= known.keys() else {**read_flags(), **known}
        if row is None:
            session.add(
                Refresh(
                    tenant=key.tenant, kb=key.kb, run_id=run_id, status="running", stages={}, done=0,
                    started_at=datetime.now(UTC), flags=flags,
                )
            )  # fmt: skip
            return flags, True
        begins = row.status != "running"
        if begins:
            row.status, row.message, row.ended_at = "running", None, None
        row.flags = flags
        return flags, begins


def finish_stage(db: Database, key: KbKey, run_id: str, report: StageReport, unit: str) -> None:
    """Keep a stage's report, and in the same transaction the seconds of that unit of work."""
    with db.write(key.tenant) as session:
        row = session.get_one(Refresh, (key.tenant, key.kb, run_id))
        row.stages = {**row.stages, report.stage: report.as_json()}
        row.stage = None
        ledger.note_seconds(session, key, run_id, report, unit)


def end_refresh(
    db: Database,
    key: KbKey,
    run_id: str,
    status: RefreshStatus,
    version: int | None = None,
    message: str | None = None,
) -> None:
    """Record how the refresh ended; an interrupt waits until it is recorded."""
    with deferred_interrupts(), db.write(key.tenant) as session:
        row = session.get(Refresh, (key.tenant, key.kb, run_id))
        if row is not None and (row.status == "running" or status not in _WITHOUT_RESULT):
            row.status, row.version, row.message = status, version, message
            row.stage, row.ended_at = None, datetime.now(UTC)


def cancel_refresh(db: Database, key: KbKey, run_id: str, since: datetime) -> None:
    """Record that a person cancelled a refresh, whose worker has ended; what it published stays published.

    Args:
        db: the control plane.
        key: the KB.
        run_id: also of a refresh that has recorded nothing yet.
        since: when it was cancelled. What failed afterwards has failed for that.
    """
    with deferred_interrupts(), db.write(key.tenant) as session:
        now = datetime.now(UTC)
        row = session.get(Refresh, (key.tenant, key.kb, run_id))
        if row is None:
            session.add(
                Refresh(
                    tenant=key.tenant, kb=key.kb, run_id=run_id, status="cancelled", message="cancelled", stages={},
                    done=0, started_at=since, ended_at=now, flags={},
                )
            )  # fmt: skip
            return
        has_failed_for_it = row.status == "failed" and row.ended_at is not None and row.ended_at >= since
        if row.status == "running" or has_failed_for_it:
            row.status, row.message, row.stage, row.ended_at = "cancelled", "cancelled", None, now


def end_interrupted(session: Session, run_id: str, message: str, status: RefreshStatus = "failed") -> None:
    """Within a transaction: note that a run's worker died before it could say how it ended."""
    values = {"status": status, "message": message, "stage": None, "ended_at": datetime.now(UTC)}
    session.execute(update(Refresh).where(Refresh.run_id == run_id, Refresh.status == "running").values(values))


def status_with_lease(status: str, run_id: str, lease_owner: str | None) -> str:
    """Return a refresh's status, `interrupted` for one that claims to run and whose run does not hold the lease."""
    return "interrupted" if status == "running" and lease_owner != run_id else status


def get_refresh(db: Database, key: KbKey, run_id: str) -> RefreshRecord | None:
    """Return one refresh, or None."""
    with db.read(key.tenant) as session:
        row = session.get(Refresh, (key.tenant, key.kb, run_id))
        return None if row is None else _record(row)


def latest_refresh(db: Database, key: KbKey) -> RefreshRecord | None:
    """Return the newest refresh of the KB, or None."""
    query = select(Refresh).where(Refresh.tenant == key.tenant, Refresh.kb == key.kb)
    with db.read(key.tenant) as session:
        row = session.scalars(query.order_by(Refresh.started_at.desc()).limit(1)).first()
        return None if row is None else _record(row)


def newest_account(db: Database, key: KbKey) -> Account | None:
    """Return the account that the newest cleaning took; None before the first one, or of an earlier release."""
    cleaned = newest_report(db, key, "clean")
    return Account.from_json(cleaned["account"]) if "account" in cleaned else None


def newest_report(db: Database, key: KbKey, stage: str) -> JsonObject:
    """Return the report of a stage in the newest refresh that came so far, as JSON; empty without one."""
    query = select(Refresh.stages).where(Refresh.tenant == key.tenant, Refresh.kb == key.kb)
    with db.read(key.tenant) as session:
        newest = session.scalars(query.order_by(Refresh.started_at.desc()).limit(_LOOKED_THROUGH))
        return next((dict(stages[stage]) for stages in newest if stage in stages), {})


def _record(row: Refresh) -> RefreshRecord:
    return RefreshRecord(
        row.run_id, row.status, row.version, row.message, row.started_at, row.ended_at, row.stages, row.stage,
        row.done, row.total, row.stage_started_at,
    )  # fmt: skip


class StageProgress:
    """Writes a stage's progress to the control plane, at most twice a second."""

    def __init__(self, db: Database, key: KbKey, run_id: str, stage: str) -> None:
        self._db, self._key, self._run_id = db, key, run_id
        self._next = 0.0
        self._write(stage=stage, done=0, total=None, stage_started_at=datetime.now(UTC))

    def __call__(self, done: int, total: int | None) -> None:
        """Say how far the stage is."""
        if time.monotonic() >= self._next or done == total:
            self._next = time.monotonic() + _PROGRESS_INTERVAL_S
            self._write(done=done, total=total)

    def _write(self, **values: Any) -> None:  # noqa: ANN401 - column values
        with self._db.write(self._key.tenant) as session:
            session.execute(
                update(Refresh)
                .where(
                    Refresh.tenant == self._key.tenant,
                    Refresh.kb == self._key.kb,
                    Refresh.run_id == self._run_id,
                )
                .values(**values)
            )
