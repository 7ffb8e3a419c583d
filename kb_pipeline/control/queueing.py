"""How many runs a tenant may have at once by its plan, and what each of them weighs in the queue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from kb_pipeline.control.database import Database
from kb_pipeline.control.plans import DEFAULT_PLAN
from kb_pipeline.control.schema import Plan
from kb_pipeline.control.tenants import get_tenant
from kb_pipeline.errors import UnknownTenant

_RUNS_AT_ONCE = 2
"""Of a plan that does not say: no tenant takes the whole machine."""
_WEIGHT = 1


@dataclass(frozen=True, slots=True)
class QueueTerms:
    """What a plan says about the runs of its tenants."""

    plan: str
    runs_at_once: int
    weight: int
    """A tenant of weight 3 gets three runs for each one of a tenant of weight 1 while both wait."""

    def priority(self, unfinished: int) -> int:
        """The place of a run in the queue, higher is sooner: the more its tenant has there already, the later.

        Whoever queues two hundred runs delays a tenant that queues one by nothing but the runs that have started.
        """
        return -round(100 * unfinished / self.weight)


def terms_of(db: Database, tenant: str) -> QueueTerms:
    """By the plan of a tenant; by the default one for a tenant that is not known (yet)."""
    try:
        plan = get_tenant(db, tenant).plan
    except UnknownTenant:
        plan = DEFAULT_PLAN
    return next((terms for terms in list_terms(db) if terms.plan == plan), _terms(plan, {}))


def list_terms(db: Database) -> list[QueueTerms]:
    """Of every plan, the default one included."""
    with db.read_all() as session:
        plans: dict[str, dict[str, Any]] = {row.name: row.limits for row in session.scalars(select(Plan))}
    return [_terms(name, limits) for name, limits in sorted(({DEFAULT_PLAN: dict[str, Any]()} | plans).items())]


def _terms(plan: str, limits: Mapping[str, Any]) -> QueueTerms:
    return QueueTerms(plan, limits.get("concurrent_runs") or _RUNS_AT_ONCE, limits.get("priority") or _WEIGHT)
