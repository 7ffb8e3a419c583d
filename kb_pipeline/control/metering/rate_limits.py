"""Rates of requests: a token bucket for a tenant, and one for a key with a rate of its own, shared by all processes.

Tokens are taken in blocks, so that a process need not write for each request. What was taken is gone from the bucket at
once: all processes together never spend more than was in it. What a process does not spend it puts back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from kb_pipeline.control.db.engine import Database, advisory_lock, database_now
from kb_pipeline.control.db.models import RateBucket

WINDOW_S = 60
"""Rates are of requests a minute; a bucket holds those of one minute, and is full again after one."""
OF_TENANT = ""
"""The bucket of a tenant's callers together; that of a key has the key's id."""


@dataclass(frozen=True, slots=True)
class TakenTokens:
    """A block of tokens for one process."""

    count: int
    """None where the bucket is empty."""
    left: float
    """How many are left in the bucket, parts of one included."""


def take_tokens(db: Database, tenant: str, bucket: str, per_minute: int, wanted: int, unspent: int = 0) -> TakenTokens:
    """Take tokens from a bucket, as many as are there, by the database's clock.

    Args:
        db: the control plane.
        tenant: whose bucket.
        bucket: OF_TENANT or the id of a key.
        per_minute: how many it holds, and how many are added in a minute.
        wanted: how many to take.
        unspent: of those that were taken before, to be put back.
    """
    with db.write(tenant, durably=False) as session:  # a power cut may fill the bucket, and harms nobody
        advisory_lock(session, f"kb rate {tenant} {bucket}")
        now, row = database_now(session), session.get(RateBucket, (tenant, bucket))
        if row is None:
            row = RateBucket(tenant=tenant, bucket=bucket, level=float(per_minute), updated_at=now)
            session.add(row)
        refilled = max(0.0, now - row.updated_at) * per_minute / WINDOW_S
        level = min(float(per_minute), row.level + refilled + unspent)
        count = min(wanted, math.floor(level))
        row.level, row.updated_at = level - count, max(now, row.updated_at)
    return TakenTokens(count, level - count)
