"""API keys of tenants, and operator keys: making one, which is answered once, listing and revoking them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal, Protocol

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from kb_pipeline.service.api.shapes import After, Answer, Limit, NextPage, page_after
from kb_pipeline.service.callers import HomeOfCaller
from kb_pipeline.service.names import TenantInPath

router = APIRouter(tags=["keys"])
KeyId = Annotated[str, Path(pattern=r"^[0-9a-f]{1,64}$", description="The key's public id, as it is listed.")]
Label = Annotated[str, Field(max_length=100, description="What it is for, to tell it from others.")]
Lifetime = Annotated[int | None, Field(ge=1, le=36_500, description="For how many days it is valid; null for ever.")]


class NewKey(BaseModel):
    """An API key to be made."""

    model_config = ConfigDict(extra="forbid")
    scopes: list[Literal["read", "build", "manage", "admin"]] = Field(
        min_length=1, max_length=10, description="What it may do: no more than the caller may."
    )
    label: Label = ""
    kbs: list[str] | None = Field(
        default=None,
        max_length=1000,
        description="The only KBs that it may see, by name within the tenant; null for all.",
        examples=[["handbook"]],
    )
    requests_per_minute: int | None = Field(
        default=None, ge=1, le=1_000_000, description="Its own rate over HTTP, beside that of its tenant's plan."
    )
    days: Lifetime = None


class NewOperatorKey(BaseModel):
    """An operator key to be made."""

    model_config = ConfigDict(extra="forbid")
    label: Label = ""
    days: Lifetime = None


class ApiKey(Answer):
    """An API key, without its secret."""

    id: str
    tenant: str
    label: str
    scopes: list[str]
    kbs: list[str] | None = Field(description="The only KBs that it may see, by name; null for all.")
    requests_per_minute: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="To the hour; null if it was never used.")


class MadeApiKey(ApiKey):
    """An API key that was made."""

    key: str = Field(description="The key itself. Only its hash is kept: it is not answered again.")


class ApiKeyPage(Answer):
    """Some API keys, the oldest first."""

    keys: list[ApiKey]
    after: NextPage


class OperatorKey(Answer):
    """An operator key, without its secret."""

    id: str
    label: str
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="To the hour; null if it was never used.")


class MadeOperatorKey(OperatorKey):
    """An operator key that was made."""

    key: str = Field(description="The key itself. Only its hash is kept: it is not answered again.")


class OperatorKeyPage(Answer):
    """Some operator keys, the oldest first."""

    keys: list[OperatorKey]
    after: NextPage


@router.get("/tenants/{tenant}/keys")
def list_keys(tenant: TenantInPath, home: HomeOfCaller, limit: Limit = 100, after: After = "") -> ApiKeyPage:
    """List a tenant's keys, the oldest first, also those that are not valid any more."""
    page, following = page_after(home.keys.list(tenant), _by_age, after, limit)
    return ApiKeyPage(keys=[ApiKey.model_validate(each) for each in page], after=following)


@router.post("/tenants/{tenant}/keys", status_code=201)
def create_key(tenant: TenantInPath, home: HomeOfCaller, asked: NewKey, response: Response) -> MadeApiKey:
    """Make a key that acts for the tenant. It is answered this once."""
    key, described = home.keys.create(
        tenant, asked.scopes, label=asked.label, kbs=asked.kbs, requests_per_minute=asked.requests_per_minute,
        lifetime=_lifetime(asked.days),
    )  # fmt: skip
    _keep_out_of_caches(response)
    return MadeApiKey.model_validate(described.as_json() | {"key": key})


@router.delete("/tenants/{tenant}/keys/{key_id}")
def revoke_key(tenant: TenantInPath, key_id: KeyId, home: HomeOfCaller) -> ApiKey:
    """Refuse a key from now on; what its holders have under way ends within seconds."""
    return ApiKey.model_validate(home.keys.revoke(tenant, key_id))


@router.get("/operator-keys")
def list_operator_keys(home: HomeOfCaller, limit: Limit = 100, after: After = "") -> OperatorKeyPage:
    """List the operator keys, the oldest first, also those that are not valid any more."""
    page, following = page_after(home.operator_keys.list(), _by_age, after, limit)
    return OperatorKeyPage(keys=[OperatorKey.model_validate(each) for each in page], after=following)


@router.post("/operator-keys", status_code=201)
def create_operator_key(home: HomeOfCaller, asked: NewOperatorKey, response: Response) -> MadeOperatorKey:
    """Make a key that may do what the operator may. It is answered this once."""
    key, described = home.operator_keys.create(label=asked.label, lifetime=_lifetime(asked.days))
    _keep_out_of_caches(response)
    return MadeOperatorKey.model_validate(described.as_json() | {"key": key})


@router.delete("/operator-keys/{key_id}")
def revoke_operator_key(key_id: KeyId, home: HomeOfCaller) -> OperatorKey:
    """Refuse an operator key from now on."""
    return OperatorKey.model_validate(home.operator_keys.revoke(key_id))


class _Made(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def created_at(self) -> datetime: ...


def _by_age(key: _Made) -> str:
    return f"{key.created_at:%Y%m%dT%H%M%S.%f}-{key.id}"


def _lifetime(days: int | None) -> timedelta | None:
    return timedelta(days=days) if days else None


def _keep_out_of_caches(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"
