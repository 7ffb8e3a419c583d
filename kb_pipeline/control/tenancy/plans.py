"""The plans of this installation: what each lets its tenants use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Plan, Tenant
from kb_pipeline.control.tenancy import audit
from kb_pipeline.errors import UnknownPlan, UnknownTenant
from kb_pipeline.model import JsonObject, Record
from kb_pipeline.spec.plan_file import PlanSpec

DEFAULT_PLAN = "default"
"""There always is one of that name: without limits, until a file says otherwise."""
Action = Literal["created", "updated", "unchanged"]


@dataclass(frozen=True, slots=True)
class PlanRecord(Record):
    """A plan as its file says."""

    plan: str
    tenants: int
    """How many have it."""
    limits: Mapping[str, Any]
    """By the words of plan files; what is missing is unlimited."""
    prices: Mapping[str, float]
    """Of a million tokens, by model."""
    updated_at: datetime | None
    """None for the default plan while no file says otherwise."""


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """What the tenants of a plan may use; None is unlimited."""

    plan: str = DEFAULT_PLAN
    concurrent_runs: int | None = None
    pages_per_day: int | None = None
    documents: int | None = None
    chunks: int | None = None
    storage: int | None = None
    """Bytes."""
    embedding_tokens_per_day: int | None = None
    priority: int = 1
    models: tuple[str, ...] | None = None
    source_types: tuple[str, ...] | None = None
    shortest_interval_s: float | None = None
    requests_per_minute: int | None = None
    prices: Mapping[str, float] = field(default_factory=dict)
    """Of a million tokens, by model."""


def apply_plans(db: Database, specs: Sequence[PlanSpec], actor: str) -> list[tuple[str, Action]]:
    """Create or change plans, all or none; their tenants' next steps go by them."""
    with db.write_all() as session:
        return [(spec.plan, _apply(session, spec, actor)) for spec in specs]


def _apply(session: Session, spec: PlanSpec, actor: str) -> Action:
    limits, prices = spec.limits.model_dump(mode="json", exclude_defaults=True), dict(spec.prices)
    row = session.get(Plan, spec.plan)
    before = None if row is None else {"limits": row.limits, "prices": row.prices}
    after = {"limits": limits, "prices": prices}
    if before == after:
        return "unchanged"
    if row is None:
        row = Plan(name=spec.plan)
        session.add(row)
    row.limits, row.prices, row.updated_at = limits, prices, datetime.now(UTC)
    audit.record(session, audit.INSTALLATION, actor, "plan.apply", spec.plan, before, after)
    return "updated" if before else "created"


def list_plans(db: Database) -> Iterator[PlanRecord]:
    """Yield every plan, by name."""
    with db.read_all() as session:
        rows = {row.name: row for row in session.scalars(select(Plan))}
        tenants = list(session.scalars(select(Tenant.plan)))
    for name in sorted({*rows, DEFAULT_PLAN}):
        row = rows.get(name)
        yield PlanRecord(
            plan=name,
            tenants=tenants.count(name),
            limits=row.limits if row else {},
            prices=row.prices if row else {},
            updated_at=row.updated_at if row else None,
        )


def get_plan(db: Database, name: str) -> PlanRecord:
    """Return one plan; raises UnknownPlan."""
    for plan in list_plans(db):
        if plan.plan == name:
            return plan
    raise UnknownPlan(name)


def require_plan(session: Session, name: str) -> None:
    """Within a transaction: whether there is such a plan; raises UnknownPlan."""
    if name != DEFAULT_PLAN and session.get(Plan, name) is None:
        raise UnknownPlan(name)


def limits_of(db: Database, tenant: str) -> PlanLimits:
    """Return a tenant's limits; raise UnknownTenant."""
    with db.read(tenant) as session:
        return limits_within(session, tenant)


def limits_of_anybody(db: Database, tenant: str) -> PlanLimits:
    """Return a tenant's limits; those of the default plan for one that does not exist yet."""
    try:
        return limits_of(db, tenant)
    except UnknownTenant:
        return next(limits for limits in list_limits(db) if limits.plan == DEFAULT_PLAN)


def list_limits(db: Database) -> list[PlanLimits]:
    """Of every plan, the default one included, by name."""
    with db.read_all() as session:
        found = {row.name: _limits(row) for row in session.scalars(select(Plan))}
    return [limits for _, limits in sorted(({DEFAULT_PLAN: PlanLimits()} | found).items())]


def limits_within(session: Session, tenant: str) -> PlanLimits:
    """Return a tenant's limits within its transaction; raise UnknownTenant."""
    owner = session.get(Tenant, tenant)
    if owner is None:
        raise UnknownTenant(tenant)
    row = session.get(Plan, owner.plan)
    return PlanLimits(owner.plan) if row is None else _limits(row)


def _limits(row: Plan) -> PlanLimits:
    given: JsonObject = {name: tuple(v) if isinstance(v, list) else v for name, v in row.limits.items()}
    if "shortest_interval" in given:
        given["shortest_interval_s"] = given.pop("shortest_interval")
    return PlanLimits(row.name, prices=row.prices, **given)
