"""Operator keys: with which programs elsewhere may do what whoever runs the installation may.

A key is `kbop_ID_SECRET`: no tenant's, and of another form than an API key, so that none is ever taken for the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import OperatorKey
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
from kb_pipeline.control.tenancy.token_holder import SCOPES, TokenHolder
from kb_pipeline.errors import KeyRefused, UnknownOperatorKey
from kb_pipeline.model import Record

PREFIX = "kbop_"
_FORM = re.compile(rf"{PREFIX}({ID_FORM})_({SECRET_FORM}){CHECKSUM_FORM}")
_WHAT = "the operator key"


@dataclass(frozen=True, slots=True)
class OperatorKeyRecord(Record):
    """An operator key: everything but the secret and its hash."""

    id: str
    """Public: part of the key, and how people name it."""
    label: str
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    """None for a key that does not expire."""
    revoked_at: datetime | None
    last_used_at: datetime | None
    """To the hour; None for a key that was never used."""


def create_key(
    db: Database, actor: str, *, label: str = "", lifetime: timedelta | None = None
) -> tuple[str, OperatorKeyRecord]:
    """Make a key; return it, for the only time, and its record; raise UsageError for a label that is none."""
    check_label(label)
    now, key_id, secret = datetime.now(UTC), new_id(), new_secret()
    row = OperatorKey(
        id=key_id, label=label, hash=hash_secret(secret), created_at=now, created_by=actor,
        expires_at=now + lifetime if lifetime else None,
    )  # fmt: skip
    with db.write_all() as session:
        session.add(row)
        after = {"label": label, "expires_at": row.expires_at.isoformat() if row.expires_at else None}
        audit.record(session, audit.INSTALLATION, actor, "operator-key.create", key_id, None, after)
    return with_checksum(f"{PREFIX}{key_id}_{secret}"), _record(row)


def list_keys(db: Database) -> Iterator[OperatorKeyRecord]:
    """Yield the keys, oldest first, also those that are not valid any more."""
    with db.read_all() as session:
        for row in session.scalars(select(OperatorKey).order_by(OperatorKey.created_at, OperatorKey.id)):
            yield _record(row)


def revoke_key(db: Database, key_id: str, actor: str) -> OperatorKeyRecord:
    """Refuse a key from now on, in every process; one that was revoked stays so. Raises UnknownOperatorKey."""
    with db.write_all() as session:
        row = session.get(OperatorKey, key_id)
        if row is None:
            raise UnknownOperatorKey(key_id)
        if row.revoked_at is None:
            row.revoked_at = datetime.now(UTC)
            audit.record(
                session, audit.INSTALLATION, actor, "operator-key.revoke", key_id, {"revoked": False}, {"revoked": True}
            )
        return _record(row)


def authenticate(db: Database, key: str) -> TokenHolder:
    """Return who holds the key. Its row is read each time: what was revoked is refused at once.

    Raises:
        KeyRefused: it is none of ours, was revoked or has expired; the latter are said only to who has the secret.
    """
    form = _FORM.fullmatch(key)
    if form is None or not has_checksum(key):
        raise KeyRefused("is not valid", _WHAT)
    with db.read_all() as session:
        row = session.get(OperatorKey, form[1])
    if not matches(key, form[2], row.hash if row else None) or row is None:
        raise KeyRefused("is not valid", _WHAT)
    check_in_force(row.id, row.revoked_at, row.expires_at, _WHAT)
    if is_use_to_note(row.last_used_at):
        with db.write_all() as session:
            session.get_one(OperatorKey, row.id).last_used_at = datetime.now(UTC)
    return TokenHolder("operator key", row.id, None, frozenset(SCOPES), expires_at=row.expires_at)


def _record(row: OperatorKey) -> OperatorKeyRecord:
    return OperatorKeyRecord(
        row.id, row.label, row.created_at, row.created_by, row.expires_at, row.revoked_at, row.last_used_at
    )
