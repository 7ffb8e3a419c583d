"""Which documents must not come back, and the receipts of their removal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, select

from kb_pipeline.control.database import Database
from kb_pipeline.control.leases import HeldLease, verify_lease
from kb_pipeline.control.schema import Erasure, Failure, Version
from kb_pipeline.errors import UnknownDocument
from kb_pipeline.model import KbKey


def erased_ids(db: Database, key: KbKey) -> tuple[str, ...]:
    """Ids of the documents that no refresh may fetch."""
    query = select(Erasure.document_id).where(Erasure.tenant == key.tenant, Erasure.kb == key.kb)
    with db.read() as session:
        return tuple(session.scalars(query.where(Erasure.lifted_at.is_(None)).order_by(Erasure.document_id)))


def block_documents(db: Database, lease: HeldLease, document_ids: Sequence[str], receipt: dict[str, Any]) -> None:
    """From now on the documents are not fetched, whatever becomes of their removal; raises LeaseLost."""
    with db.write() as session:
        verify_lease(session, lease)
        for document_id in document_ids:
            row = session.get(Erasure, (lease.key.tenant, lease.key.kb, document_id))
            if row is None:
                row = Erasure(tenant=lease.key.tenant, kb=lease.key.kb, document_id=document_id)
                session.add(row)
            row.receipt, row.erased_at, row.lifted_at = receipt, datetime.now(UTC), None


def record_purge(db: Database, lease: HeldLease, manifests: Sequence[Mapping[str, Any]], doc_key: str) -> int:
    """Point the versions at their tables made again and forget the key's failures; returns how many."""
    key = lease.key
    with db.write() as session:
        verify_lease(session, lease)
        for manifest in manifests:
            session.get_one(Version, (key.tenant, key.kb, manifest["version"])).manifest = dict(manifest)
        gone = delete(Failure).where(Failure.tenant == key.tenant, Failure.kb == key.kb, Failure.key == doc_key)
        return int(session.execute(gone).rowcount)  # type: ignore[attr-defined]  # a delete's result has it


def receipt_of(db: Database, key: KbKey, doc_key: str) -> dict[str, Any]:
    """The kept receipt of a document that was erased; raises UnknownDocument."""
    query = select(Erasure).where(Erasure.tenant == key.tenant, Erasure.kb == key.kb)
    with db.read() as session:
        for row in session.scalars(query.order_by(Erasure.erased_at.desc())):
            if row.receipt["key"] == doc_key:
                return row.receipt
    raise UnknownDocument(key, doc_key)


def lift_erasure(db: Database, key: KbKey, doc_key: str) -> dict[str, Any]:
    """Let the document be fetched again; its receipt stays. Raises UnknownDocument."""
    receipt = receipt_of(db, key, doc_key)
    with db.write() as session:
        for document_id in receipt["document_ids"]:
            row = session.get(Erasure, (key.tenant, key.kb, document_id))
            if row is not None:
                row.lifted_at = datetime.now(UTC)
    return receipt
