"""API keys: shown once, stored as a hash, refused at once when they are revoked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from argon2 import PasswordHasher

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import ApiKey
from kb_pipeline.control.tenancy import audit, key_secrets, tenants
from kb_pipeline.control.tenancy.api_keys import authenticate, create_key, list_keys, revoke_key
from kb_pipeline.control.tenancy.key_secrets import with_checksum
from kb_pipeline.errors import KeyRefused, TenantInactive, UnknownApiKey, UnknownTenant, UsageError
from kb_pipeline.model import KbKey


@pytest.fixture
def db(db: Database) -> Database:
    """With two tenants, and nothing remembered of other tests."""
    for tenant in ("acme", "globex"):
        tenants.create_tenant(db, tenant, "default", "tester")
    key_secrets._proven.clear()
    return db


def edit(db: Database, key_id: str, **values: Any) -> None:
    with db.write("acme") as session:
        row = session.get_one(ApiKey, ("acme", key_id))
        for name, value in values.items():
            setattr(row, name, value)


def test_a_key_says_whose_it_is_and_what_it_may_do(db: Database) -> None:
    key, described = create_key(db, "acme", ["build", "read"], "tester", label="nightly")
    caller = authenticate(db, key)
    assert (caller.tenant, caller.id, sorted(caller.scopes)) == ("acme", described.id, ["build", "read"])
    assert caller.actor == f"key {caller.id}"


def test_what_is_stored_is_argon2_and_no_part_of_the_secret(db: Database) -> None:
    key, described = create_key(db, "acme", ["read"], "tester")
    secret = key.split("_")[3]
    with db.read("acme") as session:
        row = session.get_one(ApiKey, ("acme", described.id))
    assert row.hash.startswith("$argon2id$")
    said = repr([row.__dict__, described, *list_keys(db, "acme"), *audit.list_entries(db, "acme")])
    assert not any(secret[start : start + 8] in said for start in range(len(secret) - 8))


def test_no_two_keys_are_alike(db: Database) -> None:
    (first, one), (second, other) = (create_key(db, "acme", ["read"], "tester") for _ in range(2))
    assert first.split("_")[3] != second.split("_")[3]
    assert [row.id for row in list_keys(db, "acme")] == [one.id, other.id]
    assert list(list_keys(db, "globex")) == []


def test_every_change_is_in_the_audit_log(db: Database) -> None:
    _, described = create_key(db, "acme", ["read"], "alice", label="reader")
    for _ in range(2):
        revoke_key(db, "acme", described.id, "bob")
    entries = [entry for entry in audit.list_entries(db, "acme") if entry.action.startswith("key.")]
    assert [(e.actor, e.action, e.subject) for e in entries] == [
        ("alice", "key.create", described.id),
        ("bob", "key.revoke", described.id),
    ]
    assert entries[0].after == {"label": "reader", "scopes": ["read"], "kbs": None, "expires_at": None}


def test_a_revoked_key_is_refused_at_once_also_where_it_was_accepted_before(db: Database) -> None:
    key, described = create_key(db, "acme", ["read"], "tester")
    authenticate(db, key)
    elsewhere = Database(db.url.render_as_string(hide_password=False))
    revoke_key(elsewhere, "acme", described.id, "tester")
    elsewhere.dispose()
    with pytest.raises(KeyRefused, match="was revoked at"):
        authenticate(db, key)


def test_an_expired_key_is_refused(db: Database) -> None:
    key, described = create_key(db, "acme", ["read"], "tester", lifetime=timedelta(days=1))
    authenticate(db, key)
    edit(db, described.id, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    with pytest.raises(KeyRefused, match="expired at"):
        authenticate(db, key)


def test_a_key_of_a_suspended_tenant_is_refused_with_the_reason(db: Database) -> None:
    key, _ = create_key(db, "acme", ["read"], "tester")
    tenants.set_status(db, "acme", "suspended", "unpaid", "tester")
    with pytest.raises(TenantInactive, match="acme is suspended: unpaid"):
        authenticate(db, key)
    with pytest.raises(TenantInactive):
        create_key(db, "acme", ["read"], "tester")


def test_nothing_tells_a_wrong_secret_from_an_unknown_id_tenant_or_revoked_key(db: Database) -> None:
    key, described = create_key(db, "acme", ["read"], "tester")
    _, old = create_key(db, "acme", ["read"], "tester")
    revoke_key(db, "acme", old.id, "tester")
    secret = "0" * 43
    forged = [
        f"kb_acme_{described.id}_{secret}",
        f"kb_acme_{'0' * 12}_{secret}",
        f"kb_nobody_{described.id}_{secret}",
        f"kb_acme_{old.id}_{secret}",
        f"kb_globex_{described.id}_{key.split('_')[3][:43]}",  # a valid key under another tenant's name
    ]
    told = set()
    for body in forged:
        with pytest.raises(KeyRefused) as caught:
            authenticate(db, with_checksum(body))
        told.add(str(caught.value))
    for mangled in ("", "kb_acme", key[:-1], key[:-1] + ("a" if key[-1] != "a" else "b"), key + "x", key + "\n", "é"):
        with pytest.raises(KeyRefused) as caught:
            authenticate(db, mangled)
        told.add(str(caught.value))
    assert len(told) == 1
    assert authenticate(db, key).id == described.id


def test_an_unknown_id_costs_what_a_wrong_secret_costs(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    verify = PasswordHasher.verify

    def counted(self: PasswordHasher, known: str | bytes, secret: str | bytes) -> bool:
        compared.append(str(known))
        return verify(self, known, secret)

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    _, described = create_key(db, "acme", ["read"], "tester")
    for key_id in (described.id, "0" * 12):
        with pytest.raises(KeyRefused):
            authenticate(db, with_checksum(f"kb_acme_{key_id}_{'0' * 43}"))
    assert len(compared) == 2
    # The parameters, which are what it costs, are the same; so they are when the library has other defaults.
    assert compared[0].split("$")[:4] == compared[1].split("$")[:4]
    assert not PasswordHasher().check_needs_rehash(key_secrets._DECOY)


def test_a_key_that_was_recognised_is_not_hashed_again_unless_its_row_changes(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, described = create_key(db, "acme", ["read"], "tester")
    authenticate(db, key)
    monkeypatch.setattr(PasswordHasher, "verify", lambda *_: pytest.fail("hashed again"))
    authenticate(db, key)
    monkeypatch.undo()
    edit(db, described.id, hash=PasswordHasher().hash("another"))
    with pytest.raises(KeyRefused):
        authenticate(db, key)


def test_last_use_is_noted_to_the_hour(db: Database) -> None:
    key, described = create_key(db, "acme", ["read"], "tester")
    assert described.last_used_at is None
    authenticate(db, key)
    (first,) = list_keys(db, "acme")
    authenticate(db, key)
    assert [row.last_used_at for row in list_keys(db, "acme")] == [first.last_used_at]
    edit(db, described.id, last_used_at=datetime.now(UTC) - timedelta(hours=2))
    authenticate(db, key)
    (last,) = list_keys(db, "acme")
    assert first.last_used_at is not None
    assert last.last_used_at is not None
    assert last.last_used_at >= first.last_used_at


@pytest.mark.parametrize("scopes", [[], ["write"], ["read", "root"]])
def test_only_scopes_that_there_are_can_be_given(db: Database, scopes: list[str]) -> None:
    with pytest.raises(UsageError, match="one or more of read, build, manage, admin"):
        create_key(db, "acme", scopes, "tester")


def test_what_is_unknown_is_said(db: Database) -> None:
    with pytest.raises(UnknownTenant):
        create_key(db, "initech", ["read"], "tester")
    _, described = create_key(db, "acme", ["read"], "tester")
    with pytest.raises(UnknownApiKey, match="kb key list globex"):
        revoke_key(db, "globex", described.id, "tester")


def test_a_key_prints_its_fields_in_order_and_no_secret(db: Database) -> None:
    tenants.create_tenant(db, "initech", "default", "tester")
    _, record = create_key(db, "initech", ["build", "read"], "tester", label="ci", lifetime=timedelta(days=1))
    assert record.expires_at == record.created_at + timedelta(days=1)
    assert list(record.as_json().items()) == [
        ("tenant", "initech"),
        ("id", record.id),
        ("label", "ci"),
        ("scopes", ["read", "build"]),
        ("kbs", None),
        ("requests_per_minute", None),
        ("created_at", record.created_at.isoformat()),
        ("expires_at", record.expires_at.isoformat()),
        ("revoked_at", None),
        ("last_used_at", None),
    ]


def test_a_key_may_be_for_some_kbs_only(db: Database) -> None:
    key, described = create_key(db, "acme", ["read"], "tester", kbs=["wiki", "docs", "wiki"])
    assert described.kbs == ("docs", "wiki")
    holder = authenticate(db, key)
    assert holder.kbs == frozenset({"docs", "wiki"})
    seen = [str(kb) for kb in (KbKey("acme", "docs"), KbKey("acme", "faq"), KbKey("globex", "docs")) if holder.sees(kb)]
    assert seen == ["acme/docs"]
    assert authenticate(db, create_key(db, "acme", ["read"], "tester")[0]).kbs is None


@pytest.mark.parametrize("kbs", [[], ["acme/docs"], ["Docs"], [f"kb-{number}" for number in range(1001)]])
def test_a_key_cannot_be_for_what_is_no_kb(db: Database, kbs: list[str]) -> None:
    with pytest.raises(UsageError):
        create_key(db, "acme", ["read"], "tester", kbs=kbs)


def test_a_key_that_administrates_the_tenant_is_for_all_of_its_kbs(db: Database) -> None:
    with pytest.raises(UsageError, match="the whole tenant"):
        create_key(db, "acme", ["read", "admin"], "tester", kbs=["docs"])


def test_an_api_key_says_until_when_it_is_valid(db: Database) -> None:
    key, described = create_key(db, "acme", ["read"], "tester", lifetime=timedelta(days=1))
    assert authenticate(db, key).expires_at == described.expires_at
