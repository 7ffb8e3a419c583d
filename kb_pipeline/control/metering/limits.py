"""Checks what a tenant is about to do against its plan, before any work is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from kb_pipeline.control.db.engine import Database, database_now
from kb_pipeline.control.db.models import IS_LIVE, Kb, Lease, Version
from kb_pipeline.control.metering import daily_quotas
from kb_pipeline.control.tenancy.plans import PlanLimits, limits_of, limits_of_anybody, limits_within
from kb_pipeline.cron import shortest_gap
from kb_pipeline.errors import QuotaExceeded
from kb_pipeline.model import KbKey, Record
from kb_pipeline.spec.kb_file import KbSpec
from kb_pipeline.store.manifest import Manifest

DAILY = (daily_quotas.PAGES, daily_quotas.TOKENS)


@dataclass(frozen=True, slots=True)
class QuotaRecord(Record):
    """One limit of a tenant, and how much of it is used."""

    limit: str
    """Its name in a plan file, such as `pages_per_day`."""
    used: int
    allowed: int | None
    """None for unlimited."""
    left: int | None
    renews_at: datetime | None
    """When a daily limit is full again; None for others."""


def check_spec(limits: PlanLimits, spec: KbSpec) -> None:
    """Raise QuotaExceeded unless a plan allows what a KB file asks for."""
    tenant, model = spec.tenant, spec.embedding.model
    if limits.models is not None and model not in limits.models:
        raise QuotaExceeded(tenant, limits.plan, "models", repr(model), " or ".join(limits.models) or "none")
    for source in spec.sources:
        if limits.source_types is not None and source.type not in limits.source_types:
            allowed = " or ".join(limits.source_types) or "none"
            raise QuotaExceeded(tenant, limits.plan, "source_types", repr(source.type), allowed)
    least_s = limits.shortest_interval_s
    if least_s is not None and spec.schedule is not None:
        gap_s = shortest_gap(spec.schedule.cron, spec.schedule.timezone, datetime.now(UTC))
        if gap_s < least_s:
            told = timedelta(seconds=gap_s), timedelta(seconds=least_s)
            raise QuotaExceeded(tenant, limits.plan, "shortest_interval", *told)


def check_allowed(db: Database, spec: KbSpec) -> None:
    """Raise QuotaExceeded unless the plan of a KB's tenant allows what its file asks for; the tenant may be new."""
    check_spec(limits_of_anybody(db, spec.tenant), spec)


def check_run(db: Database, spec: KbSpec, measure_storage: Callable[[], int]) -> None:
    """Raise QuotaExceeded unless a refresh may begin; with `renews_at` where waiting is enough.

    Args:
        db: the control plane.
        spec: the KB's file.
        measure_storage: returns the bytes that the tenant's data takes on disk; called only where the plan limits them.
    """
    tenant = spec.tenant
    limits = limits_of(db, tenant)
    check_spec(limits, spec)
    _check_stock(db, spec.key, limits, measure_storage)
    with db.read(tenant) as session:
        for quota in DAILY:
            allowed = getattr(limits, quota)
            if allowed is not None and (taken := daily_quotas.taken_today(session, quota)) >= allowed:
                raise QuotaExceeded(tenant, limits.plan, quota, taken, allowed, daily_quotas.renews_at(session))


def _check_stock(db: Database, key: KbKey, limits: PlanLimits, measure_storage: Callable[[], int]) -> None:
    # What is too big may only be refreshed if its file was changed: to be made smaller, maybe. It is counted again.
    count = 0 if _has_newer_file(db, key) else None
    for name in ("documents", "chunks"):
        check_count(db, key, name, count)
    if limits.storage is not None and (used := measure_storage()) > limits.storage:
        raise QuotaExceeded(key.tenant, limits.plan, "storage", f"{used} bytes", f"{limits.storage} bytes")


def _has_newer_file(db: Database, key: KbKey) -> bool:
    query = select(Kb.updated_at > Version.created_at).where(Kb.kb == key.kb)
    with db.read(key.tenant) as session:
        return bool(session.scalar(query.join(Version, IS_LIVE)))


def check_count(db: Database, key: KbKey, name: str, count: int | None) -> None:
    """Raise QuotaExceeded if the tenant's KBs would hold too many documents or chunks.

    Args:
        db: the control plane.
        key: of the KB that is being refreshed.
        name: `documents` or `chunks`.
        count: what its next version would hold; None for what its live version holds.

    Raises:
        QuotaExceeded: together they would be too many.
    """
    with db.read(key.tenant) as session:
        limits = limits_within(session, key.tenant)
        allowed = getattr(limits, name)
        if allowed is None:
            return
        live = _live_counts(session, name)
    used = sum((live | ({} if count is None else {key.kb: count})).values())
    if used > allowed:
        raise QuotaExceeded(key.tenant, limits.plan, name, used, allowed)


def used_up(db: Database, tenant: str, quota: str) -> QuotaExceeded:
    """Return the error for a daily quota that a run has used up."""
    with db.read(tenant) as session:
        limits = limits_within(session, tenant)
        taken, renews_at = daily_quotas.taken_today(session, quota), daily_quotas.renews_at(session)
    return QuotaExceeded(tenant, limits.plan, quota, taken, getattr(limits, quota), renews_at)


def snooze(db: Database, key: KbKey, until: datetime | None) -> None:
    """Keep the sensors from refreshing the KB before `until`; None lets them again."""
    with db.write(key.tenant) as session:
        session.get_one(Kb, (key.tenant, key.kb)).snoozed_until = until


def list_quotas(db: Database, tenant: str, storage_bytes: int) -> Iterator[QuotaRecord]:
    """Yield each limit that is a number; raises UnknownTenant.

    Args:
        db: the control plane.
        tenant: whose limits.
        storage_bytes: what the tenant's data takes on disk.
    """
    with db.read(tenant) as session:
        limits = limits_within(session, tenant)
        renews_at = daily_quotas.renews_at(session)
        used = {quota: daily_quotas.taken_today(session, quota) for quota in DAILY}
        used |= {name: sum(_live_counts(session, name).values()) for name in ("documents", "chunks")}
        held = select(func.count()).select_from(Lease).where(Lease.expires_at > database_now(session))
        used |= {"storage": storage_bytes, "concurrent_runs": session.scalar(held) or 0}
    for name in (*DAILY, "documents", "chunks", "storage", "concurrent_runs"):
        allowed = getattr(limits, name)
        yield QuotaRecord(
            limit=name,
            used=used[name],
            allowed=allowed,
            left=None if allowed is None else max(0, allowed - used[name]),
            renews_at=renews_at if name in DAILY and allowed is not None else None,
        )


def _live_counts(session: Session, name: str) -> dict[str, int]:
    """Return the documents or chunks of each KB's live version, by KB."""
    query = select(Version).join(
        Kb, (Version.tenant == Kb.tenant) & (Version.kb == Kb.kb) & (Version.version == Kb.live_version)
    )
    live = [Manifest.from_json(KbKey(row.tenant, row.kb), row.version, row.manifest) for row in session.scalars(query)]
    return {manifest.kb.kb: getattr(manifest.counts, name) for manifest in live}
