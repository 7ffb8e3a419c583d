"""The versions of a KB and the pointer to the live one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from kb_pipeline.control.database import Database
from kb_pipeline.control.leases import HeldLease, verify_lease
from kb_pipeline.control.schema import Kb, Version
from kb_pipeline.errors import GateFailed, NoLiveVersion, UnknownKb, UnknownVersion, UsageError
from kb_pipeline.model import KbKey


def reserve_version(db: Database, lease: HeldLease, run_id: str) -> int:
    """The number of the next version; numbers are never used twice. Raises LeaseLost."""
    key = lease.key
    with db.write() as session:
        verify_lease(session, lease)
        newest = select(func.max(Version.version)).where(Version.tenant == key.tenant, Version.kb == key.kb)
        number = (session.scalar(newest) or 0) + 1
        session.add(
            Version(
                tenant=key.tenant, kb=key.kb, version=number, status="candidate", run_id=run_id, manifest={},
                created_at=datetime.now(UTC),
            )
        )  # fmt: skip
    return number


def settle_version(db: Database, lease: HeldLease, number: int, status: str, manifest: dict[str, Any]) -> None:
    """Record what a candidate turned out to be: candidate, held or failed. Raises LeaseLost."""
    with db.write() as session:
        verify_lease(session, lease)
        row = _get(session, lease.key, number)
        row.status, row.manifest = status, manifest


def publish_version(db: Database, lease: HeldLease, number: int) -> None:
    """Move the live pointer, in one transaction that verifies the lease's token and the checks' verdict.

    Raises:
        LeaseLost: another run took over.
        GateFailed: the version did not pass, or was superseded.
    """
    key = lease.key
    with db.write() as session:
        verify_lease(session, lease)
        row, kb = _get(session, key, number), session.get_one(Kb, (key.tenant, key.kb))
        if row.status != "candidate":
            raise GateFailed(key, [f"version {number} is {row.status}"])
        row.status, row.published_at = "published", datetime.now(UTC)
        kb.live_version = number


def mark_pruned(db: Database, lease: HeldLease, number: int) -> None:
    """A version's data is about to be removed; it cannot be searched any more. Raises LeaseLost."""
    with db.write() as session:
        verify_lease(session, lease)
        _get(session, lease.key, number).status = "pruned"


def live_manifest(db: Database, key: KbKey) -> dict[str, Any]:
    """The manifest of the live version; raises UnknownKb or NoLiveVersion."""
    with db.read() as session:
        kb = session.get(Kb, (key.tenant, key.kb))
        if kb is None:
            raise UnknownKb(key)
        if kb.live_version is None:
            raise NoLiveVersion(key)
        return _get(session, key, kb.live_version).manifest


def manifest_as_of(db: Database, key: KbKey, as_of: str | None) -> dict[str, Any]:
    """The manifest to read by: of the live version, of a version number, or of what was live at an ISO time.

    Raises:
        UnknownKb, NoLiveVersion, UnknownVersion: there is none such.
        UsageError: `as_of` is neither a number nor a time.
    """
    if as_of is None:
        return live_manifest(db, key)
    searchable = Version.status == "published"
    query = select(Version).where(Version.tenant == key.tenant, Version.kb == key.kb, searchable)
    if as_of.isdecimal():
        query = query.where(Version.version == int(as_of))
    else:
        query = query.where(Version.published_at <= _moment(as_of)).order_by(Version.published_at.desc())
    live_manifest(db, key)
    with db.read() as session:
        row = session.scalars(query.limit(1)).first()
    if row is None:
        raise UnknownVersion(key, as_of)
    return row.manifest


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"as-of {text!r}: give a version number or an ISO time such as 2026-11-21T08:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def get_manifest(db: Database, key: KbKey, number: int) -> dict[str, Any]:
    """The manifest of one version; raises UnknownVersion."""
    with db.read() as session:
        row = session.get(Version, (key.tenant, key.kb, number))
    if row is None:
        raise UnknownVersion(key, number)
    return row.manifest


def pending_versions(db: Database, key: KbKey) -> list[tuple[int, str, dict[str, Any]]]:
    """Number, status and manifest of what is neither published nor given up: candidates and held ones, newest first."""
    query = select(Version).where(
        Version.tenant == key.tenant, Version.kb == key.kb, Version.status.in_(["candidate", "held"])
    )
    with db.read() as session:
        rows = session.scalars(query.order_by(Version.version.desc()))
        return [(row.version, row.status, row.manifest) for row in rows]


def list_versions(db: Database, key: KbKey) -> Iterator[dict[str, Any]]:
    """Every version, newest first, as the command line prints it."""
    query = select(Version).where(Version.tenant == key.tenant, Version.kb == key.kb)
    with db.read() as session:
        kb = session.get(Kb, (key.tenant, key.kb))
        if kb is None:
            raise UnknownKb(key)
        for row in session.scalars(query.order_by(Version.version.desc())):
            counts = row.manifest.get("counts", {})
            yield {
                "version": row.version,
                "live": row.version == kb.live_version,
                "status": row.status,
                "created_at": row.created_at.isoformat(),
                "documents": counts.get("documents"),
                "chunks": counts.get("chunks"),
                "model": row.manifest.get("model", {}).get("name"),
                "run_id": row.run_id,
            }


def _get(session: Session, key: KbKey, number: int) -> Version:
    return session.get_one(Version, (key.tenant, key.kb, number))
