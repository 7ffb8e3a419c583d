"""Secrets that a tenant's KB files name: set and deleted, their names listed; a value is never answered."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from kb_pipeline.service.api.shapes import After, Answer, Limit, NextPage, page_after
from kb_pipeline.service.callers import HomeOfCaller
from kb_pipeline.service.names import TenantInPath

router = APIRouter(tags=["secrets"])
SecretName = Annotated[
    str, Path(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$", description="As in `${NAME}`.", examples=["TICKETS_TOKEN"])
]


class SecretValue(BaseModel):
    """The value of a secret."""

    model_config = ConfigDict(extra="forbid")
    value: SecretStr = Field(
        min_length=1, max_length=4096, description="1 to 4096 characters of Unicode, none of them NUL."
    )


class Secret(Answer):
    """That there is a secret of that name."""

    name: str
    updated_at: datetime
    updated_by: str


class SecretPage(Answer):
    """Some secrets, by name."""

    secrets: list[Secret]
    after: NextPage


@router.get("/tenants/{tenant}/secrets")
def list_secrets(tenant: TenantInPath, home: HomeOfCaller, limit: Limit = 100, after: After = "") -> SecretPage:
    """List the names of a tenant's secrets, and when and by whom each was set."""
    page, following = page_after(home.secrets.list(tenant), lambda each: each.name, after, limit)
    return SecretPage(secrets=[Secret.model_validate(each) for each in page], after=following)


@router.put("/tenants/{tenant}/secrets/{name}", status_code=204)
def set_secret(tenant: TenantInPath, name: SecretName, home: HomeOfCaller, asked: SecretValue) -> None:
    """Store a value under a name, encrypted, in place of the one that it had. No request returns it."""
    home.secrets.set(tenant, name, asked.value.get_secret_value())


@router.delete("/tenants/{tenant}/secrets/{name}", status_code=204)
def delete_secret(tenant: TenantInPath, name: SecretName, home: HomeOfCaller) -> None:
    """Forget a value; KBs whose files name it cannot be refreshed until it is set again."""
    home.secrets.delete(tenant, name)
