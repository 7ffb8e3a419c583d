"""API keys: who may act for a tenant, with which rights, until when.

A key is `kb_TENANT_ID_SECRET`: the public id names its row, and the secret are 256 random bits; see `key_secrets`.

The key names its tenant, so that whoever is not authenticated yet is looked up in that tenant's unit of work, behind
both walls: an id looked up across tenants would need the operator's session on the one path that strangers reach.
The name is a claim and not trusted: a key under another tenant's name finds no row there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import ApiKey, Tenant
from kb_pipeline.control.tenancy import audit
from kb_pipeline.control.tenancy.key_secrets import (
    CHECKSUM_FORM,
    ID_FORM,
    SECRET_FORM,
    has_checksum,
    hash_secret,
    matches,
    new_id,
    new_secret,
    with_checksum,
)
from kb_pipeline.control.tenancy.key_validity import check_in_force, check_label, is_use_to_note
from kb_pipeline.control.tenancy.tenants import check_active, require_active
from kb_pipeline.control.tenancy.token_holder import SCOPES, TokenHolder
from kb_pipeline.errors import KeyRefused, UnknownApiKey, UsageError
from kb_pipeline.model import JsonObject, Record, check_slug
from kb_pipeline.spec.plan_file import MAX_REQUESTS_PER_MINUTE

_FORM = re.compile(rf"kb_([a-z0-9][a-z0-9-]{{0,62}})_({ID_FORM})_({SECRET_FORM}){CHECKSUM_FORM}")
_MOST_KBS = 1000
_NOT_VALID = "is not valid"


@dataclass(frozen=True, slots=True)
class KeyRecord(Record):
    """An API key as its tenant's operator sees it: everything but the secret and its hash."""

    tenant: str
    id: str
    """Public: part of the key, and how people name it."""
    label: str
    scopes: tuple[str, ...]
    kbs: tuple[str, ...] | None
    """The only KBs that it may see, by their names within the tenant; None for all."""
    requests_per_minute: int | None
    """Its own rate of requests over HTTP, beside that of its tenant's plan; None for none."""
    created_at: datetime
    expires_at: datetime | None
    """None for a key that does not expire."""
    revoked_at: datetime | None
    last_used_at: datetime | None
    """To the hour; None for a key that was never used."""


def create_key(
    db: Database,
    tenant: str,
    scopes: Collection[str],
    actor: str,
    *,
    label: str = "",
    kbs: Collection[str] | None = None,
    requests_per_minute: int | None = None,
    lifetime: timedelta | None = None,
) -> tuple[str, KeyRecord]:
    """Make a key; return it, for the only time, and its record.

    Args:
        db: the control plane.
        tenant: for whom the key acts.
        scopes: what it may do.
        actor: who makes it.
        label: what it is for.
        kbs: the only KBs that it may see, by name, whether or not they exist yet; None for all of the tenant's.
        requests_per_minute: its own rate over HTTP; None for its tenant's alone.
        lifetime: how long it is valid; None for ever.

    Raises:
        UsageError: there is no such scope, or none was given; a KB's name is none; the rate is out of range.
        UnknownTenant, TenantInactive: nobody may act for the tenant.
    """
    named, only = _scopes(scopes), _kbs(kbs)
    if only is not None and "admin" in named:
        raise UsageError("the scope admin concerns the whole tenant: a key that has it cannot be for some KBs only")
    check_label(label)
    if requests_per_minute is not None and not 1 <= requests_per_minute <= MAX_REQUESTS_PER_MINUTE:
        raise UsageError(f"a key's rate is 1 to {MAX_REQUESTS_PER_MINUTE} requests a minute")
    require_active(db, tenant)
    now, key_id, secret = datetime.now(UTC), new_id(), new_secret()
    row = ApiKey(
        tenant=tenant, id=key_id, label=label, hash=hash_secret(secret), scopes=",".join(named), kbs=only,
        requests_per_minute=requests_per_minute, created_at=now, expires_at=now + lifetime if lifetime else None,
    )  # fmt: skip
    with db.write(tenant) as session:
        session.add(row)
        expires_at = row.expires_at.isoformat() if row.expires_at else None
        after: JsonObject = {"label": label, "scopes": named, "kbs": only, "expires_at": expires_at}
        after |= {} if requests_per_minute is None else {"requests_per_minute": requests_per_minute}
        audit.record(session, tenant, actor, "key.create", key_id, None, after)
    return with_checksum(f"kb_{tenant}_{key_id}_{secret}"), _record(row)


def list_keys(db: Database, tenant: str) -> Iterator[KeyRecord]:
    """Yield a tenant's keys, oldest first, also those that are not valid any more."""
    with db.read(tenant) as session:
        for row in session.scalars(select(ApiKey).order_by(ApiKey.created_at, ApiKey.id)):
            yield _record(row)


def revoke_key(db: Database, tenant: str, key_id: str, actor: str) -> KeyRecord:
    """Refuse a key from now on, in every process; one that was revoked stays so. Raises UnknownApiKey."""
    with db.write(tenant) as session:
        row = session.get(ApiKey, (tenant, key_id))
        if row is None:
            raise UnknownApiKey(tenant, key_id)
        if row.revoked_at is None:
            row.revoked_at = datetime.now(UTC)
            audit.record(session, tenant, actor, "key.revoke", key_id, {"revoked": False}, {"revoked": True})
        return _record(row)


def authenticate(db: Database, key: str) -> TokenHolder:
    """Whose key this is and what it may do. The row is read each time: what was revoked is refused at once.

    Raises:
        KeyRefused: it is none of ours, was revoked or has expired; the latter are said only to who has the secret.
        TenantInactive: its tenant is suspended, or being deleted.
    """
    form = _FORM.fullmatch(key)
    if form is None or not has_checksum(key):
        raise KeyRefused(_NOT_VALID)
    tenant, key_id, secret = form[1], form[2], form[3]
    with db.read(tenant) as session:
        row, owner = session.get(ApiKey, (tenant, key_id)), session.get(Tenant, tenant)
    if not matches(key, secret, row.hash if row else None) or row is None:
        raise KeyRefused(_NOT_VALID)
    check_in_force(row.id, row.revoked_at, row.expires_at, "the API key")
    check_active(tenant, owner)
    if is_use_to_note(row.last_used_at):
        with db.write(tenant) as session:
            session.get_one(ApiKey, (tenant, key_id)).last_used_at = datetime.now(UTC)
    kbs = None if row.kbs is None else frozenset(row.kbs)
    return TokenHolder(
        "API key", key_id, tenant, frozenset(row.scopes.split(",")), kbs, row.expires_at, row.requests_per_minute
    )


def _scopes(given: Collection[str]) -> list[str]:
    if not given or set(given) - set(SCOPES):
        raise UsageError(f"a key's scopes are one or more of {', '.join(SCOPES)}; got {', '.join(given) or 'none'}")
    return [scope for scope in SCOPES if scope in given]


def _kbs(given: Collection[str] | None) -> list[str] | None:
    if given is None:
        return None
    names = sorted({check_slug(name) for name in given})
    if not 0 < len(names) <= _MOST_KBS:
        raise UsageError(f"a key is for all KBs of its tenant, or for 1 to {_MOST_KBS} of them by name")
    return names


def _record(row: ApiKey) -> KeyRecord:
    kbs = None if row.kbs is None else tuple(row.kbs)
    return KeyRecord(
        row.tenant, row.id, row.label, tuple(row.scopes.split(",")), kbs, row.requests_per_minute, row.created_at,
        row.expires_at, row.revoked_at, row.last_used_at,
    )  # fmt: skip
