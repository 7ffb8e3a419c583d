"""One writer per KB: a lease that runs out unless renewed, with a fencing token that only grows.

When it runs out is told by the clock of the database: those of the machines that share it differ.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from kb_pipeline.control.db.engine import Database, database_now
from kb_pipeline.control.db.models import Lease
from kb_pipeline.errors import LeaseHeld, LeaseLost
from kb_pipeline.interrupts import deferred_interrupts
from kb_pipeline.model import KbKey

LEASE_S = 60.0
"""How long a dead writer blocks its KB."""
_HANDOVER_S = 15.0
"""Between two assets of one run the lease is kept this long, so that no other run slips in between."""
_RELEASED = 0.0
"""Expiry, in Unix time, of a lease given back: no heartbeat and no end of a block revives it."""


@dataclass(frozen=True, slots=True)
class HeldLease:
    """Proof of being the writer of a KB."""

    key: KbKey
    owner: str
    token: int


@contextmanager
def hold_lease(db: Database, key: KbKey, owner: str) -> Iterator[HeldLease]:
    """Be the only writer of a KB; the same owner may come back for the rest of its work.

    A thread renews the lease while the block runs.

    Raises:
        LeaseHeld: another owner's lease has not run out.
    """
    stop = threading.Event()
    with ExitStack() as held:
        with deferred_interrupts():  # between taking the lease and promising to give it back
            lease = acquire_lease(db, key, owner)
            heart = threading.Thread(target=_beat, args=(db, lease, stop), name=f"lease {key}", daemon=True)
            heart.start()

            def give_back(error: type[BaseException] | None, *_: object) -> None:
                stop.set()
                heart.join()
                _keep(db, lease, None if error else _HANDOVER_S)

            held.push(give_back)
        yield lease


def acquire_lease(db: Database, key: KbKey, owner: str) -> HeldLease:
    """Take or retake the lease; raises LeaseHeld."""
    try:
        return _acquire(db, key, owner)
    except IntegrityError:  # another writer's first lease of this KB came between our look and our insert
        return _acquire(db, key, owner)


def seize_lease(db: Database, key: KbKey, owner: str) -> HeldLease:
    """Take the lease whoever has it: from now on the writer that had it is stopped at whatever it would change.

    Only for who removes the KB: another one would find it as that writer happened to leave it.
    """
    with db.write(key.tenant) as session:
        row = session.get(Lease, (key.tenant, key.kb), with_for_update=True)
        if row is None:
            row = Lease(tenant=key.tenant, kb=key.kb, owner="", token=0, expires_at=0.0)
            session.add(row)
        if row.owner != owner:
            row.owner, row.token = owner, row.token + 1
        row.expires_at = database_now(session) + LEASE_S
        return HeldLease(key, owner, row.token)


def _acquire(db: Database, key: KbKey, owner: str) -> HeldLease:
    with db.write(key.tenant) as session:
        row = session.get(Lease, (key.tenant, key.kb), with_for_update=True)
        now = database_now(session)
        if row is None:
            row = Lease(tenant=key.tenant, kb=key.kb, owner="", token=0, expires_at=0.0)
            session.add(row)
        if row.owner != owner:
            if row.expires_at > now:
                raise LeaseHeld(key, row.owner, row.expires_at - now)
            row.owner, row.token = owner, row.token + 1
        row.expires_at = now + LEASE_S
        return HeldLease(key, owner, row.token)


def current_lease(db: Database, key: KbKey) -> Lease | None:
    """Return the lease that is in force, or None."""
    with db.read(key.tenant) as session:
        row = session.get(Lease, (key.tenant, key.kb))
        return row if row is not None and row.expires_at > database_now(session) else None


def lease_owners(session: Session, tenant: str | None) -> dict[tuple[str, str], str]:
    """Return who writes which KB of a tenant, or of all, by tenant and name."""
    query = select(Lease).where(Lease.expires_at > database_now(session))
    rows = session.scalars(query if tenant is None else query.where(Lease.tenant == tenant))
    return {(row.tenant, row.kb): row.owner for row in rows}


def release_lease(db: Database, lease: HeldLease) -> None:
    """Let the next writer in; harmless when the lease was lost."""
    _keep(db, lease, None)


def revoke_leases(session: Session, owner: str) -> None:
    """Take all leases from an owner that is dead; should it wake up after all, its token is out of date."""
    session.execute(
        update(Lease).where(Lease.owner == owner).values(owner="", token=Lease.token + 1, expires_at=_RELEASED)
    )


def verify_lease(session: Session, lease: HeldLease) -> None:
    """Within a transaction: make sure that this writer was not replaced; raises LeaseLost."""
    row = session.get(Lease, (lease.key.tenant, lease.key.kb), with_for_update=True)
    if row is None or (row.owner, row.token) != (lease.owner, lease.token):
        raise LeaseLost(lease.key, lease.owner)


def check_lease(db: Database, lease: HeldLease) -> None:
    """Before a table is changed: make sure that this writer may still write; raises LeaseLost.

    A process that was stopped for longer than its lease wakes up in the middle of its work: unless it looks, it
    writes beside its heir.
    """
    with db.read(lease.key.tenant) as session:
        row, now = session.get(Lease, (lease.key.tenant, lease.key.kb)), database_now(session)
    is_ours = row is not None and (row.owner, row.token) == (lease.owner, lease.token)
    if row is None or not is_ours or row.expires_at <= now:
        raise LeaseLost(lease.key, lease.owner)


def _beat(db: Database, lease: HeldLease, stop: threading.Event) -> None:
    while not stop.wait(LEASE_S / 4):
        try:
            _keep(db, lease, LEASE_S)
        except OperationalError:
            continue  # a busy database: three more beats fit before the lease runs out


def _keep(db: Database, lease: HeldLease, seconds: float | None) -> None:
    """From now on for so long; None gives it back. One that was lost or given back stays so."""
    with deferred_interrupts(), db.write(lease.key.tenant) as session:
        row = session.get(Lease, (lease.key.tenant, lease.key.kb), with_for_update=True)
        is_ours = row is not None and (row.owner, row.token) == (lease.owner, lease.token)
        if row is not None and is_ours and row.expires_at > _RELEASED:
            row.expires_at = _RELEASED if seconds is None else database_now(session) + seconds
