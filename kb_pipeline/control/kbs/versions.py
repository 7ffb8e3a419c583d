"""The versions of a KB and the pointer to the live one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from kb_pipeline.control.coordination.leases import HeldLease, verify_lease
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import IS_LIVE, Kb, Rollback, Version
from kb_pipeline.control.tenancy import audit
from kb_pipeline.control.tenancy.tenants import require_active
from kb_pipeline.errors import GateFailed, InvalidManifest, NoLiveVersion, UnknownKb, UnknownVersion, UsageError
from kb_pipeline.model import KbKey, Record
from kb_pipeline.store.manifest import Manifest

SEARCHABLE = ("published", "rolled_back")
"""Statuses of the versions whose data is kept for readers."""
_LONGEST_NUMBER = 20


@dataclass(frozen=True, slots=True)
class VersionRecord(Record):
    """One version of a KB, as `kb versions` lists it."""

    version: int
    live: bool
    """Whether readers see this version now."""
    status: str
    """building, candidate, held, published, rolled_back, failed, superseded or pruned."""
    created_at: datetime
    documents: int | None
    """Documents in it; None, as are `chunks` and `model`, while it is being built or when its manifest is not valid."""
    chunks: int | None
    model: str | None
    """Name of the embedding model."""
    scores: Mapping[str, float]
    """Retrieval measures by name, such as `known_item_recall_at_5`; empty where none were taken."""
    run_id: str


@dataclass(frozen=True, slots=True)
class PendingVersion:
    """A version that is neither published nor given up."""

    number: int
    status: str
    """`building`, `candidate` or `held`."""
    manifest: Manifest | None
    """None of a version that is still `building`: its run died before it could say what it had built."""


def reserve_version(db: Database, lease: HeldLease, run_id: str) -> int:
    """Return the number of the next version; numbers are never used twice. Raise LeaseLost."""
    key = lease.key
    with db.write(key.tenant) as session:
        verify_lease(session, lease)
        newest = select(func.max(Version.version)).where(Version.tenant == key.tenant, Version.kb == key.kb)
        number = (session.scalar(newest) or 0) + 1
        session.add(
            Version(
                tenant=key.tenant, kb=key.kb, version=number, status="building", run_id=run_id, manifest={},
                created_at=datetime.now(UTC),
            )
        )  # fmt: skip
    return number


def record_verdict(db: Database, lease: HeldLease, number: int, status: str, manifest: Manifest | None = None) -> None:
    """Record what a candidate turned out to be: candidate, held, failed or superseded; raises LeaseLost.

    Without a manifest the one recorded before stays.
    """
    with db.write(lease.key.tenant) as session:
        verify_lease(session, lease)
        row = _get(session, lease.key, number)
        row.status = status
        if manifest is not None:
            row.manifest = manifest.as_json()


def publish_version(
    db: Database, lease: HeldLease, number: int, expected: str = "candidate", actor: str | None = None
) -> None:
    """Move the live pointer, in one transaction that verifies the lease's token and the checks' verdict.

    Args:
        db: the control plane.
        lease: of whoever publishes.
        number: the version.
        expected: the status that it must have: `candidate`, or `held` when a person approves it.
        actor: who publishes, where it is not the run that holds the lease.

    Raises:
        LeaseLost: another run took over.
        GateFailed: the version did not pass, or was superseded.
    """
    key = lease.key
    with db.write(key.tenant) as session:
        verify_lease(session, lease)
        row, kb = _get(session, key, number), session.get_one(Kb, (key.tenant, key.kb))
        if row.status != expected:
            raise GateFailed(key, [f"version {number} is {row.status}"])
        row.status, row.published_at = "published", datetime.now(UTC)
        _record_move(session, lease, actor, "kb.publish", kb.live_version, number)
        kb.live_version = number


def roll_back(db: Database, lease: HeldLease, number: int, actor: str) -> int:
    """Move the live pointer to a version that was published before; returns the version that was live.

    What is newer than it is `rolled_back` from then on: kept and searchable, but no refresh brings it back unasked.
    Going forth to such a version again makes it, and what is older, published once more.

    Raises:
        LeaseLost: another run took over.
        UnknownVersion: it is not kept any more, or never was published.
        UsageError: it is live already.
    """
    key = lease.key
    with db.write(key.tenant) as session:
        verify_lease(session, lease)
        row, kb = session.get(Version, (key.tenant, key.kb, number)), session.get_one(Kb, (key.tenant, key.kb))
        if row is None or row.status not in SEARCHABLE:
            raise UnknownVersion(key, number)
        if kb.live_version is None or kb.live_version == number:
            raise UsageError(f"{key}: version {number} is live already")
        before, kb.live_version = kb.live_version, number
        _record_move(session, lease, actor, "kb.rollback", before, number)
        query = select(Version).where(Version.tenant == key.tenant, Version.kb == key.kb)
        for version in session.scalars(query.where(Version.status.in_(SEARCHABLE))):
            version.status = "rolled_back" if version.version > number else "published"
        newest = select(func.max(Rollback.number)).where(Rollback.tenant == key.tenant, Rollback.kb == key.kb)
        session.add(
            Rollback(
                tenant=key.tenant, kb=key.kb, number=(session.scalar(newest) or 0) + 1, from_version=before,
                to_version=number, at=datetime.now(UTC),
            )
        )  # fmt: skip
    return before


def rolled_back_manifests(db: Database, key: KbKey) -> list[Manifest]:
    """Return the manifests of the versions newer than the live one that were rolled back."""
    query = select(Version).join(Kb, (Kb.tenant == Version.tenant) & (Kb.kb == Version.kb))
    query = query.where(Version.tenant == key.tenant, Version.kb == key.kb, Version.status == "rolled_back")
    with db.read(key.tenant) as session:
        rows = session.scalars(query.where(Version.version > Kb.live_version).order_by(Version.version))
        return [_manifest(row) for row in rows]


def mark_pruned(db: Database, lease: HeldLease, number: int) -> None:
    """No new reader gets the version; the manifest says since when, for its data goes later. Raises LeaseLost."""
    with db.write(lease.key.tenant) as session:
        verify_lease(session, lease)
        row = _get(session, lease.key, number)
        row.status, row.manifest = "pruned", replace(_manifest(row), pruned_at=datetime.now(UTC)).as_json()


def live_number(db: Database, key: KbKey) -> int:
    """Return the number of the live version; raises UnknownKb or NoLiveVersion."""
    with db.read(key.tenant) as session:
        return _live_number(session, key)


def live_manifest(db: Database, key: KbKey) -> Manifest:
    """Return the manifest of the live version; raises UnknownKb, NoLiveVersion or InvalidManifest."""
    query = select(Kb.kb, Version).outerjoin(Version, IS_LIVE)
    with db.read(key.tenant) as session:
        found = session.execute(query.where(Kb.tenant == key.tenant, Kb.kb == key.kb)).first()
    if found is None:
        raise UnknownKb(key)
    row: Version | None = found[1]
    if row is None:
        raise NoLiveVersion(key)
    return _manifest(row)


def manifest_as_of(db: Database, key: KbKey, as_of: str | None) -> Manifest:
    """Return the manifest of the live version, of a version number, or of the version live at an ISO time.

    Raises:
        UnknownKb, NoLiveVersion, UnknownVersion: there is none such.
        TenantInactive: the tenant is suspended, or being deleted.
        InvalidManifest: the manifest of the version cannot be read.
        UsageError: `as_of` is neither a number nor a time.
    """
    if as_of is None:
        live = live_manifest(db, key)
        require_active(db, key.tenant)
        return live
    live_number(db, key)
    require_active(db, key.tenant)
    with db.read(key.tenant) as session:
        number = _number(as_of) if as_of.isdecimal() else _live_at(session, key, _moment(as_of))
        row = session.get(Version, (key.tenant, key.kb, number)) if number else None
    # What waits for approval can be looked at, by those who know its number.
    if row is None or row.status not in (*SEARCHABLE, "held"):
        raise UnknownVersion(key, as_of)
    return _manifest(row)


def _live_at(session: Session, key: KbKey, moment: datetime) -> int | None:
    """Return the number of the version live at a moment: of the newest publication or rollback up to it."""
    published = select(Version.published_at, Version.version).where(
        Version.tenant == key.tenant, Version.kb == key.kb, Version.published_at <= moment
    )
    rolled_back = select(Rollback.at, Rollback.to_version).where(
        Rollback.tenant == key.tenant, Rollback.kb == key.kb, Rollback.at <= moment
    )
    newest = [
        session.execute(published.order_by(Version.published_at.desc()).limit(1)).first(),
        session.execute(rolled_back.order_by(Rollback.at.desc()).limit(1)).first(),
    ]
    moves = [(at, number) for row in newest if row is not None for at, number in [row] if at is not None]
    return max(moves)[1] if moves else None


def _number(text: str) -> int | None:
    """Parse a version number; return None if it is too large for the column."""
    return number if len(text) <= _LONGEST_NUMBER and (number := int(text)) < 2**31 else None


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(f"as-of {text!r}: give a version number or an ISO time such as 2026-11-21T08:00Z") from None


def get_manifest(db: Database, key: KbKey, number: int) -> Manifest:
    """Return the manifest of one version; raises UnknownVersion or InvalidManifest."""
    with db.read(key.tenant) as session:
        row = session.get(Version, (key.tenant, key.kb, number))
    if row is None:
        raise UnknownVersion(key, number)
    return _manifest(row)


def status_of(db: Database, key: KbKey, number: int) -> str:
    """Return the status of one version; raise UnknownVersion."""
    with db.read(key.tenant) as session:
        row = session.get(Version, (key.tenant, key.kb, number)) if number < 2**31 else None
    if row is None:
        raise UnknownVersion(key, number)
    return row.status


def kept_manifests(db: Database, key: KbKey) -> list[Manifest]:
    """Return the manifests of all versions whose data is kept for readers, oldest first."""
    query = select(Version).where(Version.tenant == key.tenant, Version.kb == key.kb, Version.status.in_(SEARCHABLE))
    with db.read(key.tenant) as session:
        return [_manifest(row) for row in session.scalars(query.order_by(Version.version))]


def pending_versions(db: Database, key: KbKey) -> list[PendingVersion]:
    """Return what is neither published nor given up, newest first."""
    query = select(Version).where(
        Version.tenant == key.tenant, Version.kb == key.kb, Version.status.in_(["building", "candidate", "held"])
    )
    with db.read(key.tenant) as session:
        rows = session.scalars(query.order_by(Version.version.desc()))
        return [PendingVersion(row.version, row.status, _manifest(row) if row.manifest else None) for row in rows]


def newest_held(db: Database, key: KbKey) -> PendingVersion | None:
    """Return the newest version that waits for approval, or None."""
    return next((each for each in pending_versions(db, key) if each.status == "held"), None)


def list_versions(db: Database, key: KbKey) -> Iterator[VersionRecord]:
    """Yield every version, newest first, also one whose manifest is not valid; raises UnknownKb."""
    query = select(Version).where(Version.tenant == key.tenant, Version.kb == key.kb)
    with db.read(key.tenant) as session:
        kb = session.get(Kb, (key.tenant, key.kb))
        if kb is None:
            raise UnknownKb(key)
        for row in session.scalars(query.order_by(Version.version.desc())):
            yield _record(row, is_live=row.version == kb.live_version)


def _record(row: Version, *, is_live: bool) -> VersionRecord:
    manifest = _readable_manifest(row)
    return VersionRecord(
        version=row.version,
        live=is_live,
        status=row.status,
        created_at=row.created_at,
        documents=manifest.counts.documents if manifest else None,
        chunks=manifest.counts.chunks if manifest else None,
        model=manifest.model.name if manifest else None,
        scores=manifest.scores if manifest else {},
        run_id=row.run_id,
    )


def _record_move(
    session: Session, lease: HeldLease, actor: str | None, action: str, before: int | None, after: int
) -> None:
    said = {"live_version": before}, {"live_version": after}
    audit.record(session, lease.key.tenant, actor or f"run {lease.owner}", action, str(lease.key), *said)


def _live_number(session: Session, key: KbKey) -> int:
    kb = session.get(Kb, (key.tenant, key.kb))
    if kb is None:
        raise UnknownKb(key)
    if kb.live_version is None:
        raise NoLiveVersion(key)
    return kb.live_version


def _manifest(row: Version) -> Manifest:
    return Manifest.from_json(KbKey(row.tenant, row.kb), row.version, row.manifest)


def _readable_manifest(row: Version) -> Manifest | None:
    try:
        return _manifest(row) if row.manifest else None
    except InvalidManifest:
        return None


def _get(session: Session, key: KbKey, number: int) -> Version:
    return session.get_one(Version, (key.tenant, key.kb, number))
