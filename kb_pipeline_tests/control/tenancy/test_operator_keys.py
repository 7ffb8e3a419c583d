"""Operator keys: of a form of their own, shown once, refused at once when they are revoked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import OperatorKey
from kb_pipeline.control.tenancy import api_keys, audit, tenants
from kb_pipeline.control.tenancy.key_secrets import with_checksum
from kb_pipeline.control.tenancy.operator_keys import authenticate, create_key, list_keys, revoke_key
from kb_pipeline.control.tenancy.token_holder import is_tenants_actor
from kb_pipeline.errors import KeyRefused, UnknownOperatorKey, UsageError


def test_a_key_is_the_operators_and_no_tenants(db: Database) -> None:
    key, described = create_key(db, "alice", label="console")
    holder = authenticate(db, key)
    assert (holder.tenant, holder.kbs, holder.id) == (None, None, described.id)
    assert key.startswith(f"kbop_{described.id}_")
    assert holder.actor == f"operator key {described.id}"
    assert not is_tenants_actor(holder.actor)
    (listed,) = list_keys(db)
    assert (listed.label, listed.created_by) == ("console", "alice")
    assert listed.last_used_at is not None


def test_what_is_stored_is_argon2_and_no_part_of_the_secret(db: Database) -> None:
    key, described = create_key(db, "alice")
    secret = key.split("_")[2]
    with db.read_all() as session:
        row = session.get_one(OperatorKey, described.id)
    assert row.hash.startswith("$argon2id$")
    said = repr([row.__dict__, described, *list_keys(db), *audit.list_entries(db, audit.INSTALLATION)])
    assert not any(secret[start : start + 8] in said for start in range(len(secret) - 8))


def test_neither_kind_of_key_is_taken_for_the_other(db: Database) -> None:
    tenants.create_tenant(db, "acme", "default", "tester")
    ours, _ = create_key(db, "alice")
    theirs, _ = api_keys.create_key(db, "acme", ["read"], "tester")
    with pytest.raises(KeyRefused):
        authenticate(db, theirs)
    with pytest.raises(KeyRefused):
        api_keys.authenticate(db, ours)


def test_a_revoked_or_expired_key_is_refused_at_once(db: Database) -> None:
    key, described = create_key(db, "alice", lifetime=timedelta(days=1))
    authenticate(db, key)
    with db.write_all() as session:
        session.get_one(OperatorKey, described.id).expires_at = datetime.now(UTC) - timedelta(seconds=1)
    with pytest.raises(KeyRefused, match=f"the operator key {described.id} expired at"):
        authenticate(db, key)
    for _ in range(2):
        revoke_key(db, described.id, "bob")
    with pytest.raises(KeyRefused, match="was revoked at"):
        authenticate(db, key)
    changes = [(entry.actor, entry.action) for entry in audit.list_entries(db, audit.INSTALLATION)]
    assert changes == [("alice", "operator-key.create"), ("bob", "operator-key.revoke")]


def test_nothing_tells_a_wrong_secret_from_an_unknown_id(db: Database) -> None:
    key, described = create_key(db, "alice")
    bodies = [f"kbop_{key_id}_{'0' * 43}" for key_id in (described.id, "0" * 12)]
    told = set()
    for forged in (*(with_checksum(body) for body in bodies), key[:-1], key + "x", key + "\n", "kbop_", "kbop_é"):
        with pytest.raises(KeyRefused) as caught:
            authenticate(db, forged)
        told.add(str(caught.value))
    assert len(told) == 1
    assert authenticate(db, key).id == described.id


def test_what_is_unknown_or_no_label_is_said(db: Database) -> None:
    with pytest.raises(UnknownOperatorKey, match="kb operator-key list"):
        revoke_key(db, "0" * 12, "alice")
    with pytest.raises(UsageError, match="label"):
        create_key(db, "alice", label="two\nlines")
