"""Sums up the usage ledger by tenant, KB, day, operation and model."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Usage
from kb_pipeline.control.tenancy.tenants import get_tenant
from kb_pipeline.errors import UsageError
from kb_pipeline.model import JsonObject, Record, check_slug

Grouping = Literal["day", "kb", "operation", "model"]
_ALL: tuple[Grouping, ...] = ("kb", "day", "operation", "model")
_ROWS = 500
"""Sums in memory at a time."""


@dataclass(frozen=True, slots=True)
class UsageRecord(Record):
    """What was used, of one tenant and whatever else the sums tell apart."""

    tenant: str
    kb: str | None
    """The KB's name without its tenant; `(deleted)` for all deleted ones together. None where KBs are summed up."""
    day: str | None
    """UTC, as in 2026-11-25; None where days are summed up."""
    operation: str | None
    """`fetch`, `embed` or another stage; None where operations are summed up."""
    model: str | None
    """Embedding model, empty for stages without one; None where models are summed up."""
    pages: int
    bytes: int
    tokens: int
    seconds: float
    cost: float
    """In the currency of the plan's prices, by the price of its day."""

    def as_json(self) -> JsonObject:
        """Return the figures and what they are told apart by."""
        return {name: value for name, value in Record.as_json(self).items() if value is not None}


def list_usage(
    db: Database,
    tenant: str | None = None,
    *,
    kb: str | None = None,
    kbs: Collection[str] | None = None,
    since: str | None = None,
    until: str | None = None,
    by: Grouping | None = None,
) -> Iterator[UsageRecord]:
    """Yield the sums, in the order of what they are told apart by.

    Args:
        db: the control plane.
        tenant: whose; None for every tenant, which is the operator's to see.
        kb: only of the tenants' KBs of that name.
        kbs: only of KBs of these names; None for all.
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
    if kbs is not None:
        query = query.where(Usage.kb.in_(kbs))
    if since is not None:
        query = query.where(Usage.day >= _day(since))
    if until is not None:
        query = query.where(Usage.day <= _day(until))
    with _reading(db, tenant) as session:
        for owner, *keys, pages, size, tokens, seconds, cost in session.execute(query).yield_per(_ROWS):
            told = dict(zip(names, keys, strict=True))
            yield UsageRecord(
                tenant=owner,
                kb=told.get("kb"),
                day=told.get("day"),
                operation=told.get("operation"),
                model=told.get("model"),
                pages=int(pages),
                bytes=int(size),
                tokens=int(tokens),
                seconds=round(seconds, 3),
                cost=int(cost) / 1_000_000,
            )


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
