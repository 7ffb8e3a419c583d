"""The dead letters of a KB: what could not be processed, at which stage and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import delete, func, select

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Failure
from kb_pipeline.model import KbKey, Record, digest

_BATCH = 500


@dataclass(frozen=True, slots=True)
class FailedItem:
    """One key that a stage could not process in its newest try."""

    source: str
    key: str
    reason: str
    message: str
    recoverable: bool
    attempts: int | None = None
    """Refreshes in a row in which it failed, where the stage counts them itself: it may leave some out."""
    tried_at: datetime | None = None
    """The last of them."""


@dataclass(frozen=True, slots=True)
class FailureRecord(Record):
    """One open failure of a KB, as `kb failures` lists it."""

    id: str
    """Stable as long as the same key fails at the same stage."""
    source: str
    stage: str
    """`fetch` or `clean`."""
    key: str
    reason: str
    """A reason code, such as `http_503`."""
    message: str
    recoverable: bool
    """Whether trying again may help; False where the item was rejected by a rule."""
    attempts: int
    """Refreshes in a row in which it failed."""
    first_seen: datetime
    last_seen: datetime


def replace_failures(db: Database, key: KbKey, stage: str, items: Iterable[FailedItem]) -> None:
    """Make the list of a stage what `items` says; those that are not among them any more are solved.

    A key is one failure however many ways led to it: a feed that a page links to is both a page and a feed. The first
    item of a key is the one that is kept.
    """
    now = datetime.now(UTC)
    by_id: dict[str, FailedItem] = {}
    for item in items:
        by_id.setdefault(failure_id(stage, item.source, item.key), item)
    with db.write(key.tenant) as session:
        query = select(Failure).where(Failure.tenant == key.tenant, Failure.kb == key.kb, Failure.stage == stage)
        known = {row.id: row for row in session.scalars(query)}
        for row_id, item in by_id.items():
            row = known.pop(row_id, None)
            if row is None:
                row = Failure(
                    tenant=key.tenant, kb=key.kb, id=row_id, source=item.source, stage=stage, key=item.key,
                    first_seen=item.tried_at or now, attempts=0,
                )  # fmt: skip
                session.add(row)
            row.reason, row.message, row.recoverable = item.reason, item.message[:2000], item.recoverable
            row.attempts, row.last_seen = item.attempts or row.attempts + 1, item.tried_at or now
        solved = list(known)
        for start in range(0, len(solved), _BATCH):
            session.execute(
                delete(Failure).where(
                    Failure.tenant == key.tenant,
                    Failure.kb == key.kb,
                    Failure.id.in_(solved[start : start + _BATCH]),
                )
            )


def failure_id(stage: str, source: str, key: str) -> str:
    """Return the id that a key's failure at a stage has."""
    return digest(stage, source, key)


def first_seen(db: Database, key: KbKey) -> dict[str, datetime]:
    """Return when each open failure began, by its id."""
    query = select(Failure.id, Failure.first_seen).where(Failure.tenant == key.tenant, Failure.kb == key.kb)
    with db.read(key.tenant) as session:
        return {row.id: row.first_seen for row in session.execute(query)}


def count_failures(db: Database, key: KbKey) -> int:
    """Return how many failures are open."""
    query = select(func.count()).select_from(Failure).where(Failure.tenant == key.tenant, Failure.kb == key.kb)
    with db.read(key.tenant) as session:
        return session.scalar(query) or 0


def list_failures(db: Database, key: KbKey) -> Iterator[FailureRecord]:
    """Yield every open failure, by stage and key."""
    query = select(Failure).where(Failure.tenant == key.tenant, Failure.kb == key.kb)
    with db.read(key.tenant) as session:
        for row in session.scalars(query.order_by(Failure.stage, Failure.key)):
            yield FailureRecord(
                row.id, row.source, row.stage, row.key, row.reason, row.message, row.recoverable, row.attempts,
                row.first_seen, row.last_seen,
            )  # fmt: skip
