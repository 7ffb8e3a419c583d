"""Tenants: adding one, its plan, suspending and removing it. All but a look at one's own is the operator's."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from kb_pipeline.errors import UsageError
from kb_pipeline.model import JsonObject, KbKey
from kb_pipeline.service.api.shapes import After, Answer, Limit, NextPage, page_after
from kb_pipeline.service.callers import HomeOfCaller
from kb_pipeline.service.names import KbId, PlanName, TenantInPath

router = APIRouter(tags=["tenants"])
_GRACE_DAYS = 7


class NewTenant(BaseModel):
    """A tenant to be added."""

    model_config = ConfigDict(extra="forbid")
    tenant: str = Field(max_length=127, examples=["acme"])
    plan: PlanName = "default"
    reuse_key: bool = Field(default=False, description="Whether it may have the name of a tenant that was deleted.")


class PlanOfTenant(BaseModel):
    """Which plan a tenant is to have."""

    model_config = ConfigDict(extra="forbid")
    plan: PlanName


class Suspension(BaseModel):
    """Why a tenant is suspended."""

    model_config = ConfigDict(extra="forbid")
    reason: str = Field(
        default="",
        max_length=500,
        pattern=r"^[^\x00-\x1f\x7f]*$",
        description="One line, which its callers are told from then on.",
    )


class TenantDetail(Answer):
    """How a tenant stands."""

    tenant: str
    plan: str
    status: str = Field(description="active, suspended, deleting or removing.")
    reason: str
    kbs: int = Field(description="How many KBs it has.")
    created_at: datetime
    delete_at: datetime | None = Field(description="When a tenant that is `deleting` is removed for good.")


class TenantPage(Answer):
    """Some tenants, by name."""

    tenants: list[TenantDetail]
    after: NextPage


class TenantDeleted(Answer):
    """The receipt of a deletion, which is kept for good."""

    tenant: str = Field(validation_alias="key")
    status: str = Field(description="unfinished until everything was looked through once more, then removed.")
    removed_at: datetime | None = None
    kbs: list[KbId] = Field(description="Which KBs were deleted with it.")
    receipt: JsonObject = Field(description="All of it: each place, what was removed there, and the checks after.")


@router.get("/tenants")
def list_tenants(home: HomeOfCaller, limit: Limit = 100, after: After = "") -> TenantPage:
    """List the tenants, by name."""
    page, following = page_after(home.tenants.list(), lambda each: each.tenant, after, limit)
    return TenantPage(tenants=[TenantDetail.model_validate(each) for each in page], after=following)


@router.post("/tenants", status_code=201)
def create_tenant(home: HomeOfCaller, asked: NewTenant, response: Response) -> TenantDetail:
    """Add a tenant."""
    made = home.tenants.create(asked.tenant, asked.plan, reuse_key=asked.reuse_key)
    response.headers["Location"] = f"/api/v1/tenants/{made.tenant}"
    return TenantDetail.model_validate(made)


@router.get("/tenants/{tenant}")
def show_tenant(tenant: TenantInPath, home: HomeOfCaller) -> TenantDetail:
    """Say how a tenant stands: its plan, whether it is active; a tenant's token with `admin` may ask for its own."""
    return TenantDetail.model_validate(home.tenants.get(tenant))


@router.put("/tenants/{tenant}/plan")
def set_plan(tenant: TenantInPath, home: HomeOfCaller, asked: PlanOfTenant) -> TenantDetail:
    """Give a tenant another plan."""
    return TenantDetail.model_validate(home.tenants.set_plan(tenant, asked.plan))


@router.post("/tenants/{tenant}/suspend")
def suspend_tenant(tenant: TenantInPath, home: HomeOfCaller, asked: Suspension | None = None) -> TenantDetail:
    """Refuse a tenant's refreshes, searches and tokens from now on; nothing of it is lost."""
    return TenantDetail.model_validate(home.tenants.suspend(tenant, (asked or Suspension()).reason))


@router.post("/tenants/{tenant}/resume")
def resume_tenant(tenant: TenantInPath, home: HomeOfCaller) -> TenantDetail:
    """Let a tenant go on, also one that was to be deleted."""
    return TenantDetail.model_validate(home.tenants.resume(tenant))


@router.delete(
    "/tenants/{tenant}", status_code=202, responses={200: {"model": TenantDeleted, "description": "It is removed."}}
)
def delete_tenant(
    tenant: TenantInPath,
    home: HomeOfCaller,
    response: Response,
    grace_days: Annotated[
        int | None, Query(ge=0, le=3650, description=f"After how many days it is removed; {_GRACE_DAYS} if not given.")
    ] = None,
    now: Annotated[
        bool, Query(description="Remove it at once instead; asked again, also later, the receipt is answered.")
    ] = False,
) -> TenantDetail | TenantDeleted:
    """Have a tenant removed, everything of it: after days of grace, in which it may be resumed, or at once."""
    if not now:
        grace = timedelta(days=_GRACE_DAYS if grace_days is None else grace_days)
        return TenantDetail.model_validate(home.tenants.schedule_deletion(tenant, grace))
    if grace_days is not None:
        raise UsageError("give grace_days or now=true, not both: now leaves no days of grace")
    deleted = home.tenants.delete(tenant)
    response.status_code = 200
    receipt = deleted.as_json()
    kbs = [KbKey.parse(key) for key in deleted.kbs or ()]
    return TenantDeleted.model_validate(receipt | {"kbs": kbs, "receipt": receipt})
