"""API keys: who may act for a tenant, with which rights, until when.

A key is `kb_TENANT_ID_SECRET`: the public id names its row, the secret are 256 random bits, and its last six characters
are a checksum by which scanners tell a real key from a look-alike without asking us.

The key names its tenant, so that whoever is not authenticated yet is looked up in that tenant's unit of work, behind
both walls: an id looked up across tenants would need the operator's session on the one path that strangers reach.
The name is a claim and not trusted: a key under another tenant's name finds no row there.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Literal, get_args

from sqlalchemy import select

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import ApiKey
from kb_pipeline.control.tenancy import audit
from kb_pipeline.control.tenancy.tenants import require_active
from kb_pipeline.errors import KeyRefused, UnknownApiKey, UsageError
from kb_pipeline.model import Record

if TYPE_CHECKING:
    from argon2 import PasswordHasher

Scope = Literal["read", "build", "manage"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

_FORM = re.compile(r"(kb_([a-z0-9][a-z0-9-]{0,62})_([0-9a-f]{12})_([0-9A-Za-z]{43}))([0-9A-Za-z]{6})")
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SECRET_DIGITS = 43  # 62 ** 43 > 2 ** 256
_LONGEST_LABEL = 100
_KEY_ACTOR = "key "
"""Before the id of a key that did something, in the audit log."""
_NOT_VALID = "is not valid"
_DECOY = (
    "$argon2id$v=19$m=65536,t=3,p=4$sZlGuVJ03+2v3akdDql3rg$xc7EiMuv60MUe6gidL6G638jrWxPY3CdHdzyAB4xuek"  # of nothing
)
"""What a key of unknown id is compared with: it costs what a wrong secret costs."""
_USE_NOTED_EVERY = timedelta(hours=1)
_MOST_PROVEN = 1024
_proven: dict[bytes, str] = {}
"""Digests of keys to the hash that each was found to match: see `_matches`."""


@dataclass(frozen=True, slots=True)
class KeyRecord(Record):
    """An API key as its tenant's operator sees it: everything but the secret and its hash."""

    tenant: str
    id: str
    """Public: part of the key, and how people name it."""
    label: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    """None for a key that does not expire."""
    revoked_at: datetime | None
    last_used_at: datetime | None
    """To the hour; None for a key that was never used."""


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """Who showed a valid key: a tenant's program with some rights."""

    tenant: str
    id: str
    scopes: frozenset[str]

    @property
    def actor(self) -> str:
        """The name in the audit log."""
        return f"{_KEY_ACTOR}{self.id}"


def is_key_actor(actor: str) -> bool:
    """Return whether the audit log's actor is an API key; an operator who takes such a name is taken for one."""
    return actor.startswith(_KEY_ACTOR)


def create_key(
    db: Database,
    tenant: str,
    scopes: Collection[str],
    actor: str,
    *,
    label: str = "",
    lifetime: timedelta | None = None,
) -> tuple[str, KeyRecord]:
    """Make a key; return it, for the only time, and its record.

    Raises:
        UsageError: there is no such scope, or none was given.
        UnknownTenant, TenantInactive: nobody may act for the tenant.
    """
    named = _scopes(scopes)
    if len(label) > _LONGEST_LABEL or not label.isprintable():
        raise UsageError(f"a key's label is one printable line of at most {_LONGEST_LABEL} characters")
    require_active(db, tenant)
    now = datetime.now(UTC)
    key_id, secret = secrets.token_hex(6), _base62(secrets.randbits(256), _SECRET_DIGITS)
    row = ApiKey(
        tenant=tenant, id=key_id, label=label, hash=_hasher().hash(secret), scopes=",".join(named), created_at=now,
        expires_at=now + lifetime if lifetime else None,
    )  # fmt: skip
    with db.write(tenant) as session:
        session.add(row)
        expires_at = row.expires_at.isoformat() if row.expires_at else None
        after = {"label": label, "scopes": named, "expires_at": expires_at}
        audit.record(session, tenant, actor, "key.create", key_id, None, after)
    body = f"kb_{tenant}_{key_id}_{secret}"
    return body + _checksum(body), _record(row)


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


def authenticate(db: Database, key: str) -> KeyHolder:
    """Whose key this is and what it may do. The row is read each time: what was revoked is refused at once.

    Raises:
        KeyRefused: it is none of ours, was revoked or has expired; the latter are said only to who has the secret.
        TenantInactive: its tenant is suspended, or being deleted.
    """
    form = _FORM.fullmatch(key)
    if form is None or not hmac.compare_digest(_checksum(form[1]), form[5]):
        raise KeyRefused(_NOT_VALID)
    tenant, key_id, secret = form[2], form[3], form[4]
    with db.read(tenant) as session:
        row = session.get(ApiKey, (tenant, key_id))
    if not _matches(key, secret, row.hash if row else _DECOY) or row is None:
        raise KeyRefused(_NOT_VALID)
    _check_in_force(row)
    require_active(db, tenant)
    _note_use(db, row)
    return KeyHolder(tenant, key_id, frozenset(row.scopes.split(",")))


def _matches(key: str, secret: str, known: str) -> bool:
    """Whether the secret is the hash's.

    That a key matches a hash stays true for ever, so that a process that found it once need not spend 64 MiB on it
    at every request; the row, and with it revocation and expiry, is read all the same. Only who holds a valid key is
    answered sooner for it.
    """
    from argon2.exceptions import InvalidHashError, VerificationError

    digest = hashlib.sha256(key.encode()).digest()
    if _proven.get(digest) == known:
        return True
    try:
        _hasher().verify(known, secret)
    except (VerificationError, InvalidHashError):
        return False
    if len(_proven) >= _MOST_PROVEN:
        _proven.clear()
    _proven[digest] = known
    return True


def _check_in_force(row: ApiKey) -> None:
    if row.revoked_at is not None:
        raise KeyRefused(f"{row.id} was revoked at {row.revoked_at:%Y-%m-%d %H:%M} UTC")
    if row.expires_at is not None and row.expires_at <= datetime.now(UTC):
        raise KeyRefused(f"{row.id} expired at {row.expires_at:%Y-%m-%d %H:%M} UTC")


def _note_use(db: Database, row: ApiKey) -> None:
    """To the hour: a write for every request would cost more than most requests."""
    now = datetime.now(UTC)
    if row.last_used_at is None or now - row.last_used_at >= _USE_NOTED_EVERY:
        with db.write(row.tenant) as session:
            session.get_one(ApiKey, (row.tenant, row.id)).last_used_at = now


def _scopes(given: Collection[str]) -> list[str]:
    if not given or set(given) - set(SCOPES):
        raise UsageError(f"a key's scopes are one or more of {', '.join(SCOPES)}; got {', '.join(given) or 'none'}")
    return [scope for scope in SCOPES if scope in given]


def _record(row: ApiKey) -> KeyRecord:
    scopes = tuple(row.scopes.split(","))
    return KeyRecord(
        row.tenant, row.id, row.label, scopes, row.created_at, row.expires_at, row.revoked_at, row.last_used_at
    )


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), 6)


def _base62(number: int, digits: int) -> str:
    text = ""
    for _ in range(digits):
        number, rest = divmod(number, len(_DIGITS))
        text = _DIGITS[rest] + text
    return text


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher  # with the library's defaults: RFC 9106's second choice

    return PasswordHasher()
