"""What a tenant used, and what is left of its plan's limits."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from kb_pipeline.service.api.shapes import Answer, Limit, NextSkip, Skip, page_from
from kb_pipeline.service.callers import HomeOfCaller

router = APIRouter(tags=["usage"])
Tenant = Annotated[
    str | None, Query(max_length=63, description="Whose; without it the caller's own, or all for an operator.")
]
Day = Annotated[str | None, Query(max_length=10, description="UTC, as in 2026-11-25.")]


class Quota(Answer):
    """One limit of a tenant."""

    limit: str
    used: int
    allowed: int | None = Field(description="Null for unlimited.")
    left: int | None
    renews_at: datetime | None = Field(description="When a daily limit is full again.")


class Quotas(Answer):
    """The limits of a tenant's plan."""

    limits: list[Quota]


class Used(Answer):
    """What was used, of a tenant and whatever else is told apart."""

    tenant: str
    kb: str | None = Field(description="The KB's name within its tenant.")
    day: str | None
    operation: str | None
    model: str | None
    pages: int
    bytes: int
    tokens: int
    seconds: float
    cost: float


class Usage(Answer):
    """Sums of the ledger, in order."""

    usage: list[Used]
    skip: NextSkip


@router.get("/quotas")
@router.get("/limits", summary="Alias of /quotas")
def list_quotas(home: HomeOfCaller, tenant: Tenant = None) -> Quotas:
    """List each limit of a tenant: what is used, what is left, when it renews."""
    return Quotas(limits=[Quota.model_validate(each) for each in home.quotas(tenant)])


@router.get("/usage")
def list_usage(
    home: HomeOfCaller,
    tenant: Tenant = None,
    kb: Annotated[str | None, Query(max_length=63, description="Only KBs of that name, without the tenant's.")] = None,
    since: Day = None,
    until: Day = None,
    by: Annotated[
        Literal["day", "kb", "operation", "model"] | None,
        Query(description="Sum up by this alone, instead of by KB, day, operation and model."),
    ] = None,
    limit: Limit = 1000,
    skip: Skip = 0,
) -> Usage:
    """List what was used: pages, bytes, tokens, seconds and what they cost."""
    found = home.usage(tenant, kb=kb, since=since, until=until, by=by)
    page, following = page_from(found, skip, limit)
    return Usage(usage=[Used.model_validate(each) for each in page], skip=following)
