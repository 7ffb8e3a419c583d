"""What the ledger says, summed up by tenant, KB, day, operation and model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import date
from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Usage
from kb_pipeline.control.tenancy.tenants import get_tenant
from kb_pipeline.errors import UsageError
from kb_pipeline.model import check_slug

By = Literal["day", "kb", "operation", "model"]
_ALL: tuple[By, ...] = ("kb", "day", "operation", "model")
_ROWS = 500


def list_usage(
    db: Database,
    tenant: str | None = None,
    *,
    kb: str | None = None,
    since: str | None = None,
    until: str | None = None,
    by: By | None = None,
) -> Iterator[dict[str, Any]]:
    """Stream the sums, in order.

    Args:
        db: the control plane.
        tenant: whose; None for every tenant, which is the operator's to see.
        kb: only of the tenants' KBs of that name.
        since: the first day, as in 2026-11-25.
        until: the last day.
        by: what to tell apart beside tenants; None for KB, day, operation and model.

    Raises:
        InvalidKey: no KB can have that name.
        UnknownTenant: there is none such.
        UsageError: a day is none.
    """
    names = _ALL if by is None else (by,)
    columns = [Usage.tenant, *(getattr(Usage, name) for name in names)]
    sums = [func.sum(column) for column in (Usage.pages, Usage.bytes, Usage.tokens, Usage.seconds, Usage.cost_micros)]
    query = select(*columns, *sums).where(Usage.pending.is_(None)).group_by(*columns).order_by(*columns)
    if kb is not None:
        query = query.where(Usage.kb == check_slug(kb))
    if since is not None:
        query = query.where(Usage.day >= _day(since))
    if until is not None:
        query = query.where(Usage.day <= _day(until))
    with _reading(db, tenant) as session:
        for *keys, pages, size, tokens, seconds, cost in session.execute(query).yield_per(_ROWS):
            yield dict(zip(("tenant", *names), keys, strict=True)) | {
                "pages": int(pages),
                "bytes": int(size),
                "tokens": int(tokens),
                "seconds": round(seconds, 3),
                "cost": int(cost) / 1_000_000,
            }


def _reading(db: Database, tenant: str | None) -> AbstractContextManager[Session]:
    if tenant is None:
        return db.read_all()
    get_tenant(db, tenant)
    return db.read(tenant)


def _day(written: str) -> str:
    try:
        return date.fromisoformat(written).isoformat()
    except ValueError:
        raise UsageError(f"{written!r} is no day; write it as in 2026-11-25") from None
