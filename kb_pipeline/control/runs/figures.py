"""What monitoring asks of the control plane: how KBs stand, what waits, what was used, in a bounded number of figures.

KBs and tenants beyond the caps are summed up under one name, so that what is scraped stays small with any number of
them. KBs that are not well come first, then the largest.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import nlargest

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import IS_LIVE, Job, Kb, Refresh, Version
from kb_pipeline.control.metering.report import UsageRecord, list_usage
from kb_pipeline.control.runs.overview import KbOverview, list_overviews
from kb_pipeline.model import JsonObject, KbKey

MOST_KBS = 150
"""KBs with figures of their own: 20 each, with which a scrape stays under 5,000."""
MOST_TENANTS = 50
"""Tenants with figures of their own."""
OTHER = "(other)"
"""What the rest is summed up under; no tenant and no KB can have that name."""
_UNWELL = frozenset({"failed", "held", "interrupted"})


@dataclass(frozen=True, slots=True)
class KbFigures:
    """How one KB stands, or the rest of them together, for which ages are the greatest."""

    tenant: str
    kb: str
    documents: int
    chunks: int
    failures: int
    held: int
    """Versions that wait for approval."""
    version_age_s: float | None
    """Seconds since the live version was published; None without one."""
    refresh_age_s: float | None
    """Seconds since the newest refresh ended; None before the first one."""
    is_well: bool
    """Whether nothing waits for somebody: no refresh that failed, was interrupted or is held."""
    stages: Mapping[str, JsonObject]
    """Stage name to the counts of its report in the newest refresh that ended; empty for the rest."""


@dataclass(frozen=True, slots=True)
class Queue:
    """The refreshes of a tenant that were asked for and have not begun."""

    tenant: str
    waiting: int
    oldest_s: float
    """Seconds that the oldest of them has waited."""


@dataclass(frozen=True, slots=True)
class Figures:
    """All of it, at one moment."""

    states: Mapping[str, int]
    """How many KBs are in each state."""
    kbs: Sequence[KbFigures]
    queues: Sequence[Queue]
    usage: Sequence[UsageRecord]
    """By tenant and operation, since the ledger begins."""


def read_figures(db: Database, tenant: str | None = None) -> Figures:
    """Return the figures of a tenant, or of all."""
    found = list_overviews(db, tenant)
    ranked = sorted(found, key=lambda each: (each.status not in _UNWELL, -each.documents, each.kb))
    shown, rest = ranked[:MOST_KBS], ranked[MOST_KBS:]
    now = datetime.now(UTC)
    with _reading(db, tenant) as session:
        published = _published_at(session)
        stages = _stages(session, [each.kb for each in shown])
        queues = _queues(session, now)
    figures = [_figures(each, published.get(each.kb), stages.get(each.kb, {}), now) for each in shown]
    if rest:
        figures.append(_sum_up([_figures(each, published.get(each.kb), {}, now) for each in rest]))
    states = Counter(each.status for each in found)
    return Figures(states, figures, _cap_queues(queues), _cap_usage(list_usage(db, tenant, by="operation")))


def _reading(db: Database, tenant: str | None) -> AbstractContextManager[Session]:
    return db.read_all() if tenant is None else db.read(tenant)


def _figures(
    kb: KbOverview, published_at: datetime | None, stages: Mapping[str, JsonObject], now: datetime
) -> KbFigures:
    return KbFigures(
        tenant=kb.kb.tenant,
        kb=kb.kb.kb,
        documents=kb.documents,
        chunks=kb.chunks,
        failures=kb.failures,
        held=int(kb.held_version is not None),
        version_age_s=_age_s(published_at, now),
        refresh_age_s=_age_s(kb.last_refresh_at, now),
        is_well=kb.status not in _UNWELL,
        stages=stages,
    )


def _sum_up(rest: Sequence[KbFigures]) -> KbFigures:
    return KbFigures(
        tenant=OTHER,
        kb=OTHER,
        documents=sum(each.documents for each in rest),
        chunks=sum(each.chunks for each in rest),
        failures=sum(each.failures for each in rest),
        held=sum(each.held for each in rest),
        version_age_s=max((each.version_age_s for each in rest if each.version_age_s is not None), default=None),
        refresh_age_s=max((each.refresh_age_s for each in rest if each.refresh_age_s is not None), default=None),
        is_well=all(each.is_well for each in rest),
        stages={},
    )


def _published_at(session: Session) -> dict[KbKey, datetime]:
    rows = session.execute(select(Version.tenant, Version.kb, Version.published_at).join(Kb, IS_LIVE))
    return {KbKey(tenant, kb): at for tenant, kb, at in rows if at is not None}


def _stages(session: Session, keys: Sequence[KbKey]) -> dict[KbKey, Mapping[str, JsonObject]]:
    """Return the stages of the newest refresh that ended, for these KBs alone: reports are long."""
    of_these = tuple_(Refresh.tenant, Refresh.kb).in_([(key.tenant, key.kb) for key in keys])
    by_age = func.row_number().over(partition_by=(Refresh.tenant, Refresh.kb), order_by=Refresh.started_at.desc())
    ended = select(Refresh.tenant, Refresh.kb, Refresh.run_id, by_age.label("age")).where(
        of_these, Refresh.ended_at.is_not(None)
    )
    ranked = ended.subquery()
    is_newest = (Refresh.tenant == ranked.c.tenant) & (Refresh.kb == ranked.c.kb) & (Refresh.run_id == ranked.c.run_id)
    query = select(Refresh.tenant, Refresh.kb, Refresh.stages).join(ranked, is_newest).where(ranked.c.age == 1)
    return {KbKey(tenant, kb): stages for tenant, kb, stages in session.execute(query)}


def _queues(session: Session, now: datetime) -> list[Queue]:
    columns = (Job.tenant, func.count(), func.min(Job.requested_at))
    query = (
        select(*columns).where(Job.run_id.is_(None), Job.ended_at.is_(None)).group_by(Job.tenant).order_by(Job.tenant)
    )
    return [Queue(tenant, waiting, _age_s(oldest, now) or 0.0) for tenant, waiting, oldest in session.execute(query)]


def _cap_queues(queues: Sequence[Queue]) -> list[Queue]:
    ranked = sorted(queues, key=lambda each: -each.oldest_s)
    shown, rest = ranked[:MOST_TENANTS], ranked[MOST_TENANTS:]
    if rest:
        shown.append(Queue(OTHER, sum(each.waiting for each in rest), max(each.oldest_s for each in rest)))
    return shown


def _cap_usage(usage: Iterable[UsageRecord]) -> list[UsageRecord]:
    """Sum up all tenants but those that used the most seconds."""
    rows = list(usage)
    seconds: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        seconds[row.tenant] += row.seconds
    shown = set(nlargest(MOST_TENANTS, seconds, key=seconds.__getitem__))
    sums: dict[tuple[str, str], UsageRecord] = {}
    for row in rows:
        tenant, operation = row.tenant if row.tenant in shown else OTHER, row.operation or ""
        before = sums.get((tenant, operation))
        sums[tenant, operation] = UsageRecord(
            tenant=tenant,
            kb=None,
            day=None,
            operation=operation,
            model=None,
            pages=row.pages + (before.pages if before else 0),
            bytes=row.bytes + (before.bytes if before else 0),
            tokens=row.tokens + (before.tokens if before else 0),
            seconds=row.seconds + (before.seconds if before else 0.0),
            cost=row.cost + (before.cost if before else 0.0),
        )
    return list(sums.values())


def _age_s(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else max(0.0, (now - moment).total_seconds())
