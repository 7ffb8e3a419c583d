"""How every refresh goes and went: progress while it runs, stage reports, the end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Refresh
from kb_pipeline.control.flags.registry import FlagValue
from kb_pipeline.control.metering import ledger
from kb_pipeline.model import KbKey, StageReport

RefreshStatus = Literal["running", "ready", "ready_with_warnings", "unchanged", "held", "failed", "snoozed", "partial"]
_PROGRESS_INTERVAL_S = 0.5


def begin_refresh(
    db: Database, key: KbKey, run_id: str, flags: Mapping[str, FlagValue] | None = None
) -> tuple[dict[str, FlagValue], bool]:
    """Note that a run works on the KB; a later stage of the same run, or its retry, changes nothing.

    Args:
        db: the control plane.
        key: the KB.
        run_id: whose first stage it is, or a later one.
        flags: what they are now.

    Returns:
        The flags that hold for all of the run, those it began with; and whether it begins, or begins again.
    """
    now = dict(flags or {})
    with db.write(key.tenant) as session:
        row = session.get(Refresh, (key.tenant, key.kb, run_id))
        if row is None:
            session.add(
                Refresh(
                    tenant=key.tenant, kb=key.kb, run_id=run_id, status="running", stages={}, done=0,
                    started_at=datetime.now(UTC), flags=now,
                )
            )  # fmt: skip
            return now, True
        begins = row.status != "running"
        if begins:
            row.status, row.message, row.ended_at = "running", None, None
        row.flags = {**now, **(row.flags or {})}  # a release that came amid the run may know more of them
        return dict(row.flags), begins


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
    """Record how the refresh ended."""
    with db.write(key.tenant) as session:
        row = session.get(Refresh, (key.tenant, key.kb, run_id))
        if row is not None and (row.status == "running" or status != "failed"):
            row.status, row.version, row.message = status, version, message
            row.stage, row.ended_at = None, datetime.now(UTC)


def end_interrupted(session: Session, run_id: str, message: str) -> None:
    """Within a transaction: note that a run's worker died before it could say how it ended."""
    values = {"status": "failed", "message": message, "stage": None, "ended_at": datetime.now(UTC)}
    session.execute(update(Refresh).where(Refresh.run_id == run_id, Refresh.status == "running").values(values))


def get_refresh(db: Database, key: KbKey, run_id: str) -> Refresh | None:
    """One refresh, or None."""
    with db.read(key.tenant) as session:
        return session.get(Refresh, (key.tenant, key.kb, run_id))


def latest_refresh(db: Database, key: KbKey) -> Refresh | None:
    """The newest refresh of the KB, or None."""
    query = select(Refresh).where(Refresh.tenant == key.tenant, Refresh.kb == key.kb)
    with db.read(key.tenant) as session:
        return session.scalars(query.order_by(Refresh.started_at.desc()).limit(1)).first()


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


def describe_running(row: Refresh) -> dict[str, Any] | None:
    """What the command line shows of a running refresh; None when it has ended."""
    if row.status != "running":
        return None
    eta = None
    if row.stage_started_at and row.total and row.done:
        elapsed = (datetime.now(UTC) - row.stage_started_at).total_seconds()
        eta = round(elapsed / row.done * max(row.total - row.done, 0), 1)
    return {"stage": row.stage, "done": row.done, "total": row.total, "eta_s": eta}
