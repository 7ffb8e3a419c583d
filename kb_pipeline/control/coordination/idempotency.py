"""Requests that a client may send again, each done once: by its key, in the transaction that does the work.

The record of a request is written with what it did. So whatever is killed, either both are there and the same request
gets the same answer, or neither is and it is done now. Requests with the same key wait for one another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete
from sqlalchemy.orm import Session

from kb_pipeline.control.db.engine import Database, advisory_lock
from kb_pipeline.control.db.models import IdempotentRequest
from kb_pipeline.errors import KeyReused
from kb_pipeline.model import JsonObject, RequestOnce

KEPT = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class OnceAnswer:
    """What a request was answered with."""

    body: JsonObject
    is_replayed: bool
    """Whether an earlier request with the same key did the work."""


def answer_once(
    session: Session, tenant: str, request: RequestOnce | None, work: Callable[[], JsonObject]
) -> OnceAnswer:
    """Within a transaction of the tenant's: do the work of a request, or return what it was answered with before.

    Args:
        session: of the transaction, in which the work is done too.
        tenant: whose.
        request: None for one that is not to be told from others.
        work: does it and returns the answer; what it raises is kept by nobody, so that the request may be sent again.

    Raises:
        KeyReused: another request had the same key.
    """
    if request is None:
        return OnceAnswer(work(), is_replayed=False)
    advisory_lock(session, f"kb request {tenant} {request.caller} {request.key}")
    row = session.get(IdempotentRequest, (tenant, request.caller, request.key))
    if row is not None and row.expires_at > datetime.now(UTC):
        if row.fingerprint != request.fingerprint:
            raise KeyReused(request.key)
        return OnceAnswer(row.body, is_replayed=True)
    if row is not None:
        session.delete(row)
        session.flush()
    body = work()
    session.add(
        IdempotentRequest(
            tenant=tenant, caller=request.caller, key=request.key, fingerprint=request.fingerprint, body=body,
            expires_at=datetime.now(UTC) + KEPT,
        )
    )  # fmt: skip
    return OnceAnswer(body, is_replayed=False)


def forget_old_requests(db: Database) -> None:
    """Forget requests whose keys may be used again."""
    with db.write_all() as session:
        session.execute(delete(IdempotentRequest).where(IdempotentRequest.expires_at < datetime.now(UTC)))
