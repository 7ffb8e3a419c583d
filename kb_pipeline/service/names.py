"""Names of things in URLs and JSON: a KB is `tenant.kb`, since a slash in a path segment is lost in routers."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Path
from pydantic import BeforeValidator, Field

from kb_pipeline.errors import InvalidKey, UnknownKb, UnknownTenant
from kb_pipeline.installation import Installation, Kb
from kb_pipeline.model import KbKey, check_slug
from kb_pipeline.request_context import current_request

_EXAMPLE = "acme.handbook"


def kb_id(key: KbKey) -> str:
    """Return the KB's id on the network: `tenant.kb`."""
    return f"{key.tenant}.{key.kb}"


def kb_key(given: str) -> KbKey:
    """Return the key that an id stands for; raise UnknownKb for what can be no id."""
    tenant, _, kb = given.partition(".")
    try:
        return KbKey(tenant, kb)
    except InvalidKey:
        raise UnknownKb(given) from None


def open_kb(home: Installation, given: str) -> Kb:
    """Return the KB of that id; raise UnknownKb also for what can be no id, and for another tenant's."""
    key = kb_key(given)
    if (current := current_request.get()) is not None:
        current.kb = given
    return home.kb(key)


def tenant_name(given: str) -> str:
    """Return the name of a tenant; raise UnknownTenant for what can be none."""
    try:
        return check_slug(given)
    except InvalidKey:
        raise UnknownTenant(given) from None


async def _tenant(tenant: Annotated[str, Path(max_length=127, description="The tenant's name.")]) -> str:
    return tenant_name(tenant)


def _shown(value: Any) -> Any:  # noqa: ANN401 - whatever an answer is made of
    return kb_id(value) if isinstance(value, KbKey) else value


KbInPath = Annotated[str, Path(max_length=127, examples=[_EXAMPLE], description="The KB's id: tenant.kb.")]
KbId = Annotated[str, BeforeValidator(_shown), Field(examples=[_EXAMPLE])]
"""A KB in an answer, made of its key or its id."""
TenantInPath = Annotated[str, Depends(_tenant)]
PlanName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", examples=["default"])]
