"""The daily quotas of a tenant, one bucket each for all its processes: full again at midnight UTC.

What a tenant has taken of a quota is the sum over its KBs. A KB's part is what the ledger says it has used, and what
its run has taken in advance: setting it to the ledger's figure gives back what a run, dead or alive, took and did not
use. Days, not a steady trickle: no day ever sees more than the plan's limit, and a ledger by days shows the same.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from kb_pipeline.control.db.engine import advisory_lock, database_now
from kb_pipeline.control.db.models import Bucket
from kb_pipeline.model import KbKey

PAGES, TOKENS = "pages_per_day", "embedding_tokens_per_day"


def take(session: Session, key: KbKey, quota: str, wanted: int, limit: int | None) -> int:
    """Within a transaction of the tenant's: take so much of a quota, or what is left of it; returns how much."""
    advisory_lock(session, f"kb {quota} {key.tenant}")
    taken = wanted if limit is None else max(0, min(wanted, limit - taken_today(session, quota)))
    mine = _of(session, key.tenant, key.kb, quota)
    mine.taken += taken
    session.flush()
    return taken


def settle(session: Session, key: KbKey, quota: str, used: int) -> None:
    """Within a transaction: a KB has taken what it has used today, and nothing in advance."""
    advisory_lock(session, f"kb {quota} {key.tenant}")
    _of(session, key.tenant, key.kb, quota).taken = used
    session.flush()


def hand_over(session: Session, bucket: Bucket, kb: str) -> None:
    """Within the operator's transaction: what was taken today counts for another name of the tenant."""
    heir = _of(session, bucket.tenant, kb, bucket.key)
    heir.taken += bucket.taken
    bucket.taken = 0


def taken_today(session: Session, quota: str) -> int:
    """Return how much of a quota the tenant has taken since midnight (UTC)."""
    rows = session.scalars(select(Bucket).where(Bucket.key == quota, Bucket.day == today(session)))
    return sum(row.taken for row in rows)


def today(session: Session) -> str:
    """Return the day by the database's clock, in UTC."""
    return _now(session).date().isoformat()


def renews_at(session: Session) -> datetime:
    """When every bucket is full again."""
    return _now(session).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def _of(session: Session, tenant: str, kb: str, quota: str) -> Bucket:
    day, row = today(session), session.get(Bucket, (tenant, kb, quota))
    if row is None:
        row = Bucket(tenant=tenant, kb=kb, key=quota, day=day, taken=0)
        session.add(row)
    if row.day != day:
        row.day, row.taken = day, 0
    return row


def _now(session: Session) -> datetime:
    return datetime.fromtimestamp(database_now(session), UTC)
