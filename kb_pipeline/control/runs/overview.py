"""Lists how KBs stand, many at once: state, live version, last and next refresh, failures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from kb_pipeline.control.coordination.leases import lease_owners
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import IS_LIVE, Failure, Job, Kb, Refresh, Tenant, Version
from kb_pipeline.control.runs.refreshes import status_with_lease
from kb_pipeline.cron import next_tick
from kb_pipeline.model import EmbeddingModel, KbKey, Record

_Query = TypeVar("_Query", bound=Select[*tuple[Any, ...]])
_Rows = Mapping[tuple[str, str], Any]


@dataclass(frozen=True, slots=True)
class KbOverview(Record):
    """How one KB stands, as `kb list` shows it."""

    kb: KbKey
    status: str
    """As in `kb status`; `queued` while a refresh that was asked for waits, or what its tenant is when not active."""
    live_version: int | None
    """None before the first one is published."""
    documents: int
    chunks: int
    """Of the live version."""
    model: str | None
    """Name of the embedding model of the live version."""
    failures: int
    """Keys that could not be turned into text."""
    held_version: int | None
    """The newest version that waits for approval."""
    last_refresh_at: datetime | None
    """When the newest refresh ended, or began if it runs."""
    next_refresh_at: datetime | None
    """By the KB's own schedule; None without one, and while its tenant is not active."""
    created_at: datetime
    """When it was first applied."""


def list_overviews(db: Database, tenant: str | None = None) -> list[KbOverview]:
    """Return how the KBs of a tenant, or of all, stand, by key."""
    if tenant is None:
        with db.read_all() as session:
            return list(_overviews(session, None))
    with db.read(tenant) as session:
        return list(_overviews(session, tenant))


def _overviews(session: Session, tenant: str | None) -> Iterator[KbOverview]:
    kbs = session.scalars(_of(select(Kb), Kb, tenant).order_by(Kb.tenant, Kb.kb)).all()
    states = session.execute(_of(select(Tenant.tenant, Tenant.status), Tenant, tenant))
    tenants = {name: status for name, status in states}  # noqa: C416 - dict() takes a result for a mapping
    refreshes, counts = _newest_refreshes(session, tenant), _live_counts(session, tenant)
    failures, held = _failures(session, tenant), _held_versions(session, tenant)
    waiting, owners = _waiting(session, tenant), lease_owners(session, tenant)
    for kb in kbs:
        key = (kb.tenant, kb.kb)
        last, (documents, chunks, model) = refreshes.get(key), counts.get(key, (0, 0, None))
        is_active = tenants.get(kb.tenant) == "active"
        known = status_with_lease(last.status, last.run_id, owners.get(key)) if last else "new"
        status = known if is_active else tenants.get(kb.tenant, "deleting")
        yield KbOverview(
            kb=KbKey(kb.tenant, kb.kb),
            status="queued" if is_active and key in waiting and status != "running" else status,
            live_version=kb.live_version,
            documents=documents,
            chunks=chunks,
            model=model,
            failures=failures.get(key, 0),
            held_version=held.get(key),
            last_refresh_at=(last.ended_at or last.started_at) if last else None,
            next_refresh_at=next_refresh(kb.cron, kb.timezone, kb.snoozed_until) if is_active else None,
            created_at=kb.created_at,
        )


def next_refresh(cron: str | None, timezone: str, snoozed_until: datetime | None) -> datetime | None:
    """Return when a KB is refreshed next by its schedule, or when the quota that stopped it renews; None for never."""
    now = datetime.now(UTC)
    if snoozed_until is not None and snoozed_until > now:
        return snoozed_until
    return next_tick(cron, timezone, now) if cron else None


def _newest_refreshes(session: Session, tenant: str | None) -> _Rows:
    """Return the newest refresh of each KB, without the reports of its stages, which are long."""
    by_age = func.row_number().over(partition_by=(Refresh.tenant, Refresh.kb), order_by=Refresh.started_at.desc())
    columns = (Refresh.tenant, Refresh.kb, Refresh.run_id, Refresh.status, Refresh.started_at, Refresh.ended_at)
    ranked = _of(select(*columns, by_age.label("age")), Refresh, tenant).subquery()
    rows = session.execute(select(ranked).where(ranked.c.age == 1))
    return {(row.tenant, row.kb): row for row in rows}


def _live_counts(session: Session, tenant: str | None) -> dict[tuple[str, str], tuple[int, int, str | None]]:
    counts, model = Version.manifest["counts"], Version.manifest["model"]["name"].as_string()
    columns = (Version.tenant, Version.kb, counts["documents"].as_integer(), counts["chunks"].as_integer(), model)
    rows = session.execute(_of(select(*columns).join(Kb, IS_LIVE), Version, tenant))
    return {(name, kb): (documents or 0, chunks or 0, model) for name, kb, documents, chunks, model in rows}


def _failures(session: Session, tenant: str | None) -> dict[tuple[str, str], int]:
    query = select(Failure.tenant, Failure.kb, func.count()).group_by(Failure.tenant, Failure.kb)
    return {(name, kb): count for name, kb, count in session.execute(_of(query, Failure, tenant))}


def _held_versions(session: Session, tenant: str | None) -> dict[tuple[str, str], int]:
    query = select(Version.tenant, Version.kb, func.max(Version.version)).where(Version.status == "held")
    rows = session.execute(_of(query, Version, tenant).group_by(Version.tenant, Version.kb))
    return {(name, kb): version for name, kb, version in rows if version is not None}


def _waiting(session: Session, tenant: str | None) -> set[tuple[str, str]]:
    query = select(Job.tenant, Job.kb).where(Job.run_id.is_(None), Job.ended_at.is_(None)).distinct()
    return {(name, kb) for name, kb in session.execute(_of(query, Job, tenant))}


def _of(query: _Query, table: type[Any], tenant: str | None) -> _Query:
    return query if tenant is None else query.where(table.tenant == tenant)


def count_held(db: Database) -> int:
    """Return how many versions wait for approval, of all KBs of all tenants."""
    with db.read_all() as session:
        return session.scalar(select(func.count()).select_from(Version).where(Version.status == "held")) or 0


def live_models(db: Database) -> list[EmbeddingModel]:
    """Return the embedding models of the live versions of all KBs, the most used first."""
    model = Version.manifest["model"]
    columns = (model["name"].as_string(), model["fingerprint"].as_string(), model["dimension"].as_integer())
    query = select(*columns).join(Kb, IS_LIVE).group_by(*columns).order_by(func.count().desc(), *columns)
    with db.read_all() as session:
        return [EmbeddingModel(*found) for found in session.execute(query)]
