"""Plans: what each lets its tenants use; the operator's."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Response
from pydantic import Field

from kb_pipeline.service.api.file_in_body import describe_file, file_in_body
from kb_pipeline.service.api.shapes import After, Answer, Limit, NextPage, page_after
from kb_pipeline.service.callers import HomeOfCaller

router = APIRouter(tags=["plans"])


class Plan(Answer):
    """A plan as its file says."""

    plan: str
    tenants: int = Field(description="How many have it.")
    limits: dict[str, Any] = Field(description="By the words of plan files; what is missing is unlimited.")
    prices: dict[str, float] = Field(description="Of a million tokens, by model.")
    updated_at: datetime | None = Field(description="Null for the default plan while no file says otherwise.")


class PlanPage(Answer):
    """Some plans, by name."""

    plans: list[Plan]
    after: NextPage


class PlanApplied(Answer):
    """What applying a plan file did."""

    plan: str
    action: Literal["created", "updated", "unchanged"]


@router.get("/plans")
def list_plans(home: HomeOfCaller, limit: Limit = 100, after: After = "") -> PlanPage:
    """List the plans, by name."""
    page, following = page_after(home.plans.list(), lambda each: each.plan, after, limit)
    return PlanPage(plans=[Plan.model_validate(each) for each in page], after=following)


@router.post("/plans", openapi_extra=describe_file("plan"))
def apply_plan_file(
    home: HomeOfCaller, file: Annotated[str, Depends(file_in_body("plan"))], response: Response
) -> PlanApplied:
    """Create or change the plan that the file in the body describes; its tenants' next steps go by it."""
    plan, action = home.plans.apply_text(file)
    if action == "created":
        response.status_code = 201
        response.headers["Location"] = f"/api/v1/plans/{plan}"
    return PlanApplied.model_validate({"plan": plan, "action": action})


@router.get("/plans/{plan}")
def show_plan(plan: Annotated[str, Path(max_length=63)], home: HomeOfCaller) -> Plan:
    """Return a plan: its limits and prices."""
    return Plan.model_validate(home.plans.get(plan))
