"""Which documents must not come back, and the receipts of their removal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from kb_pipeline.control.coordination.leases import HeldLease, verify_lease
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Erasure, Failure, Version
from kb_pipeline.control.kbs.erasure_receipt import ErasureReceipt
from kb_pipeline.control.tenancy import audit
from kb_pipeline.model import KbKey, document_id
from kb_pipeline.store.manifest import Manifest


def erased_ids(db: Database, key: KbKey, sources: Iterable[str]) -> tuple[str, ...]:
    """Return the ids of the documents that no refresh may fetch, whichever source of today's KB file would.

    Args:
        db: the control plane.
        key: the KB.
        sources: the names of its file's sources.
    """
    query = select(Erasure).where(Erasure.tenant == key.tenant, Erasure.kb == key.kb, Erasure.lifted_at.is_(None))
    with db.read(key.tenant) as session:
        rows = list(session.scalars(query))
    if not rows:
        return ()
    ids, keys = {row.document_id for row in rows}, {row.receipt["key"] for row in rows}
    # An id is of a source and a key: under another name the source must not bring the document back.
    ids |= {document_id(source, doc_key) for source in sources for doc_key in keys}
    return tuple(sorted(ids))


def block_documents(
    db: Database, lease: HeldLease, document_ids: Sequence[str], receipt: ErasureReceipt, actor: str
) -> None:
    """From now on the documents are not fetched, whatever becomes of their removal; raises LeaseLost."""
    with db.write(lease.key.tenant) as session:
        verify_lease(session, lease)
        blocked = []
        for each in document_ids:
            row = session.get(Erasure, (lease.key.tenant, lease.key.kb, each))
            if row is None or row.lifted_at is not None:
                blocked.append(each)
            if row is None:
                row = Erasure(tenant=lease.key.tenant, kb=lease.key.kb, document_id=each)
                session.add(row)
            row.receipt, row.erased_at, row.lifted_at = receipt.as_json(), datetime.now(UTC), None
        if blocked:  # later calls complete the receipt
            _record(session, lease, actor, "kb.erase", blocked)


def record_purge(db: Database, lease: HeldLease, manifests: Sequence[Manifest], doc_key: str) -> int:
    """Point the versions at their tables made again and forget the key's failures; returns how many."""
    key = lease.key
    with db.write(key.tenant) as session:
        verify_lease(session, lease)
        for manifest in manifests:
            session.get_one(Version, (key.tenant, key.kb, manifest.version)).manifest = manifest.as_json()
        gone = delete(Failure).where(Failure.tenant == key.tenant, Failure.kb == key.kb, Failure.key == doc_key)
        return int(session.execute(gone).rowcount)  # type: ignore[attr-defined]  # a delete's result has it


def find_receipt(db: Database, key: KbKey, doc_key: str) -> tuple[ErasureReceipt, bool] | None:
    """Return the kept receipt of a key, and whether it was lifted since; None when it never was erased."""
    query = select(Erasure).where(Erasure.tenant == key.tenant, Erasure.kb == key.kb)
    with db.read(key.tenant) as session:
        for row in session.scalars(query.order_by(Erasure.erased_at.desc())):
            if row.receipt["key"] == doc_key:
                return ErasureReceipt.from_json(row.receipt), row.lifted_at is not None
    return None


def lift_documents(db: Database, lease: HeldLease, document_ids: Sequence[str], actor: str) -> None:
    """From now on the documents may be fetched again; raises LeaseLost."""
    with db.write(lease.key.tenant) as session:
        verify_lease(session, lease)
        for each in document_ids:
            row = session.get(Erasure, (lease.key.tenant, lease.key.kb, each))
            if row is not None and row.lifted_at is None:
                row.lifted_at = datetime.now(UTC)
        _record(session, lease, actor, "kb.lift", document_ids)


def _record(session: Session, lease: HeldLease, actor: str, action: str, document_ids: Sequence[str]) -> None:
    after = {"document_ids": list(document_ids)}
    audit.record(session, lease.key.tenant, actor, action, str(lease.key), None, after)
