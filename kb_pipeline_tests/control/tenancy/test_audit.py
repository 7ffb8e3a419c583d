"""Every change is written down with its author, and tampering with that shows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import update

from kb_pipeline.control.coordination import leases
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import AuditEntry, Kb
from kb_pipeline.control.kbs import catalog, versions
from kb_pipeline.control.tenancy import audit, tenants
from kb_pipeline.model import KbKey
from kb_pipeline.spec.kb_file import parse_spec
from kb_pipeline_tests.store.manifests import manifest_of

ACME = KbKey("acme", "docs")


def apply(db: Database, key: KbKey, delay_s: int, actor: str = "ann") -> None:
    source = f"{{name: site, type: web, start_urls: ['http://site.example/'], delay_s: {delay_s}}}"
    yaml = f"tenant: {key.tenant}\nkb: {key.kb}\nsources: [{source}]\n"
    catalog.apply_spec(db, parse_spec(yaml, "test"), yaml, actor)


def publish(db: Database, key: KbKey, run_id: str) -> None:
    lease = leases.acquire_lease(db, key, run_id)
    number = versions.reserve_version(db, lease, run_id)
    versions.record_verdict(db, lease, number, "candidate", manifest_of(key, number))
    versions.publish_version(db, lease, number)
    leases.release_lease(db, lease)


def said(db: Database, tenant: str) -> list[tuple[Any, ...]]:
    names = ("actor", "action", "subject", "before", "after")
    return [tuple(getattr(entry, name) for name in names) for entry in audit.list_entries(db, tenant)]


def test_changes_are_told_by_whom_when_from_what_to_what(db: Database) -> None:
    apply(db, ACME, 1)
    apply(db, ACME, 2, "bob")
    apply(db, ACME, 2, "bob")  # changes nothing
    publish(db, ACME, "run-1")
    publish(db, ACME, "run-2")
    lease = leases.acquire_lease(db, ACME, "rollback-1")
    versions.roll_back(db, lease, 1, "ann")
    tenants.set_status(db, "acme", "suspended", "unpaid", "ops")
    assert said(db, "acme") == [
        ("ann", "tenant.create", "acme", None, {"plan": "default", "status": "active"}),
        ("ann", "kb.apply", "acme/docs", None, {"revision": 1}),
        ("bob", "kb.apply", "acme/docs", {"revision": 1}, {"revision": 2}),
        ("run run-1", "kb.publish", "acme/docs", {"live_version": None}, {"live_version": 1}),
        ("run run-2", "kb.publish", "acme/docs", {"live_version": 1}, {"live_version": 2}),
        ("ann", "kb.rollback", "acme/docs", {"live_version": 2}, {"live_version": 1}),
        (
            "ops", "tenant.suspend", "acme",
            {"status": "active", "reason": ""}, {"status": "suspended", "reason": "unpaid"},
        ),
    ]  # fmt: skip
    (chain,) = audit.verify(db)
    assert (chain.tenant, chain.entries, chain.broken_at) == ("acme", 7, None)


def test_a_log_and_the_chains_are_read_from_a_place_on(db: Database) -> None:
    for name in ("acme", "globex", "initech"):
        tenants.create_tenant(db, name, "default", "ops")
        tenants.set_status(db, name, "suspended", "", "ops")
        tenants.set_status(db, name, "active", "", "ops")
    assert [entry.number for entry in audit.list_entries(db, "globex", after=1)] == [2, 3]
    assert [entry.number for entry in audit.list_entries(db, "globex", after=1, limit=1)] == [2]
    assert list(audit.list_entries(db, "globex", after=3)) == []
    assert [chain.tenant for chain in audit.verify(db, limit=2)] == ["acme", "globex"]
    assert [chain.tenant for chain in audit.verify(db, after="acme", limit=2)] == ["globex", "initech"]
    assert [(chain.entries, chain.broken_at) for chain in audit.verify(db, after="globex")] == [(3, None)]


def test_a_change_that_fails_leaves_no_entry(db: Database) -> None:
    apply(db, ACME, 1)
    with suppress(ZeroDivisionError), db.write("acme") as session:
        session.get_one(Kb, ("acme", "docs")).cron = "* * * * *"
        audit.record(session, "acme", "ann", "kb.apply", "acme/docs", None, {"revision": 9})
        _ = 1 / 0
    assert len(said(db, "acme")) == 2
    assert audit.verify_tenant(db, "acme").broken_at is None


def _alter(db: Database) -> None:
    with db.write_all() as session:
        session.execute(update(AuditEntry).where(AuditEntry.number == 3).values(actor="somebody else"))


def _remove(db: Database) -> None:
    with db.write_all() as session:
        session.delete(session.get_one(AuditEntry, ("acme", 3)))


def _swap(db: Database) -> None:
    with db.write_all() as session:
        third, fourth = (session.get_one(AuditEntry, ("acme", number)) for number in (3, 4))
        third.after, fourth.after = fourth.after, third.after


def _forge(db: Database) -> None:
    """Rewrite an entry with a hash of its own that fits the one before."""
    with db.write_all() as session:
        second, third = (session.get_one(AuditEntry, ("acme", number)) for number in (2, 3))
        third.actor = "somebody else"
        third.hash = audit._hash(second.hash, third)


@pytest.mark.parametrize(("tamper", "found_at"), [(_alter, 3), (_remove, 3), (_swap, 3), (_forge, 4)])
def test_tampering_is_found_where_it_was_done(db: Database, tamper: Callable[[Database], None], found_at: int) -> None:
    for delay_s in range(6):
        apply(db, ACME, delay_s)
    apply(db, KbKey("beta", "docs"), 1)
    tamper(db)
    assert {chain.tenant: chain.broken_at for chain in audit.verify(db)} == {"acme": found_at, "beta": None}


def test_entries_written_at_the_same_time_make_one_chain(db: Database) -> None:
    apply(db, ACME, 1)

    def write(name: str) -> None:
        for number in range(10):
            with db.write("acme") as session:
                audit.record(session, "acme", name, "test", str(number))

    threads = [threading.Thread(target=write, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    chain = audit.verify_tenant(db, "acme")
    assert (chain.entries, chain.broken_at) == (42, None)
