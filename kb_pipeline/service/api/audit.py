"""The audit log: who changed what, and whether that is still what was written."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field

from kb_pipeline.service.api.shapes import Answer, Limit
from kb_pipeline.service.callers import HomeOfCaller
from kb_pipeline.service.names import tenant_name

router = APIRouter(tags=["audit"])
Tenant = Annotated[
    str | None,
    Query(max_length=127, description="Whose; without it the caller's own, or the installation's for an operator."),
]


class Entry(Answer):
    """One change by somebody."""

    number: int
    at: datetime
    actor: str
    action: str
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    hash: str


class AuditPage(Answer):
    """Some changes, the oldest first."""

    entries: list[Entry]
    after: int | None = Field(description="What to give as `after` for the next page; null on the last one.")


class Chain(Answer):
    """What verifying one tenant's log found."""

    tenant: str = Field(description="Empty for the installation's own log.")
    entries: int
    head: str = Field(description="Hash of the last good entry: note it elsewhere, to see if the end is cut off.")
    broken_at: int | None = Field(description="Number of the first entry that is missing or not what was written.")


class ChainPage(Answer):
    """The logs of some tenants, by name, the installation's first."""

    chains: list[Chain]
    after: str | None = Field(description="What to give as `after` for the next page; null on the last one.")


@router.get("/audit")
def list_changes(
    home: HomeOfCaller,
    tenant: Tenant = None,
    limit: Limit = 100,
    after: Annotated[int, Query(ge=0, le=2**53, description="The number of the last change of the page before.")] = 0,
) -> AuditPage:
    """List changes, the oldest first: by whom, when, from what to what."""
    named = tenant_name(tenant) if tenant else None
    found = [Entry.model_validate(each) for each in home.audit.list(named, after=after, limit=limit + 1)]
    return AuditPage(entries=found[:limit], after=found[limit - 1].number if len(found) > limit else None)


@router.get("/audit/chains")
def verify_chains(
    home: HomeOfCaller,
    limit: Limit = 100,
    after: Annotated[str | None, Query(max_length=127, description="The `after` of the page before.")] = None,
) -> ChainPage:
    """Recompute the chain of each tenant's log, and say where it is broken; the operator's."""
    begin = tenant_name(after) if after else after
    found = [Chain.model_validate(each) for each in home.audit.verify(after=begin, limit=limit + 1)]
    return ChainPage(chains=found[:limit], after=found[limit - 1].tenant if len(found) > limit else None)
