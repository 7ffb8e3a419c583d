"""Removes a tenant or a KB from everything that this home stores, and proves it with a receipt.

`RunHistory` removes what Dagster has recorded of its runs.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from kb_pipeline.control.coordination.leases import (
    LEASE_S,
    HeldLease,
    acquire_lease,
    check_lease,
    hold_lease,
    seize_lease,
)
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import DELETED_KBS, Base, HostClient, Kb, OfKb, OfTenant, Refresh, RetiredKey, Tenant
from kb_pipeline.control.kbs.catalog import get_kb, list_kbs
from kb_pipeline.control.kbs.versions import kept_manifests, live_manifest, pending_versions
from kb_pipeline.control.metering.ledger import keep_of_deleted
from kb_pipeline.control.tenancy import audit
from kb_pipeline.errors import DamagedStore, KbError, LeaseHeld, NoLiveVersion, UnknownKb, UnknownTenant, UsageError
from kb_pipeline.failpoints import failpoint
from kb_pipeline.maintenance.garbage_collection import chunk_tables, unused_vectors
from kb_pipeline.model import KbKey, Record
from kb_pipeline.operations.backup import remove_abandoned
from kb_pipeline.operations.deletion_receipt import DeletedPlace, DeletionCheck, DeletionReceipt, is_unfinished
from kb_pipeline.operations.housekeeping import READER_GRACE, manifests_in_use
from kb_pipeline.operations.recover_usage import recover_usage
from kb_pipeline.settings import Settings
from kb_pipeline.store.durable_files import files_beneath, remove_folder
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.manifest import Counts
from kb_pipeline.store.paths import KbPaths, tenant_folder, tenants_with_files
from kb_pipeline.store.stage_tables import VECTORS_PREFIX
from kb_pipeline.store.table import LanceTable

WAIT_S = 30.0
"""How long a run that was asked to end may take; then its lease is taken away."""
_POLL_S = 0.2
_OWNER = "removal-"
_NOT_REACHED = (
    "backups and snapshots of this home or of its disks",
    "folders written by kb export: they are their owners'",
    "hosts that were asked, without who asked them: their clocks are forgotten after 30 days",
    "free space of a Postgres server's files and write-ahead log, which the server uses again in its own time",
    "the key: it is in this receipt and in the audit log",
)

_KEPT = "what it has used, which its tenant's account keeps: sums by day, without its name"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DeletionTarget:
    """The tenant, or the KB of it, that is deleted."""

    tenant: str
    kb: str | None = None

    @classmethod
    def parse(cls, key: str) -> DeletionTarget:
        """Parse `tenant` or `tenant/kb`, as a receipt has it."""
        tenant, _, kb = key.partition("/")
        return cls(tenant, kb or None)

    @property
    def key(self) -> str:
        """`tenant` or `tenant/kb`."""
        return self.tenant if self.kb is None else f"{self.tenant}/{self.kb}"

    def covers(self, key: str) -> bool:
        """Whether the KB of that key is deleted."""
        return key == self.key if self.kb else key.startswith(f"{self.tenant}/")


class RunHistory(Protocol):
    """What Dagster has recorded of runs."""

    def stop(self, target: DeletionTarget, wait_s: float) -> None:
        """Cancel queued runs, and wait at most `wait_s` seconds for running ones."""

    def run_ids(self, target: DeletionTarget) -> list[str]:
        """Return the ids of the recorded runs."""

    def count(self, target: DeletionTarget) -> dict[str, int]:
        """Count the records that name the target, by kind."""

    def remove(self, target: DeletionTarget) -> None:
        """Remove all of these records; if it is killed half-way, the next call goes on."""


def delete_tenant(settings: Settings, db: Database, history: RunHistory, tenant: str) -> DeletionReceipt:
    """Remove a tenant whose grace is over; if the call is killed, the same call goes on.

    Returns:
        The receipt: what was removed where, and that nothing is left.

    Raises:
        UnknownTenant: there is no such tenant, and no receipt of one.
        UsageError: it is not to be deleted yet.
        LeaseHeld: another call is deleting it.
        DamagedStore: something of it was found after the deletion.
    """
    target = DeletionTarget(tenant)
    with db.read(tenant) as session:
        row = session.get(Tenant, tenant)
    if row is None:
        return _kept_receipt(db, target, UnknownTenant(tenant))
    return _Deletion(settings, db, history, target).run()


def delete_kb(settings: Settings, db: Database, history: RunHistory, key: KbKey) -> DeletionReceipt:
    """Remove one KB at once; if the call is killed, the same call goes on.

    Returns:
        The receipt: what was removed where, and that nothing is left.

    Raises:
        UnknownKb: there is no such KB, and no receipt of one.
        LeaseHeld: another call is deleting it.
        DamagedStore: something of it was found after the deletion.
    """
    target = DeletionTarget(key.tenant, key.kb)
    with db.read(key.tenant) as session:
        is_known = session.get(Kb, (key.tenant, key.kb)) is not None
    if not is_known:
        receipt = _kept_receipt(db, target, UnknownKb(key))
        if receipt.is_finished:
            return receipt
    return _Deletion(settings, db, history, target).run()


@dataclass(frozen=True, slots=True)
class DeletionPlan(Record):
    """What `kb delete` would remove, if nothing is written meanwhile."""

    kb: KbKey
    versions: tuple[int, ...]
    """All that can be read, or wait for approval."""
    documents: int
    """Of the live version."""
    chunks: int
    bytes: int
    """Of files."""
    places: tuple[DeletedPlace, ...]


def plan_deletion(settings: Settings, db: Database, history: RunHistory, key: KbKey) -> DeletionPlan:
    """Return what deleting a KB would remove, and change nothing; raises UnknownKb."""
    get_kb(db, key)
    kept = {manifest.version for manifest in kept_manifests(db, key)}
    numbers = kept | {pending.number for pending in pending_versions(db, key)}
    try:
        counts = live_manifest(db, key).counts
    except NoLiveVersion:
        counts = Counts(0, 0)
    places = _Deletion(settings, db, history, DeletionTarget(key.tenant, key.kb)).plan()
    size = sum(place.bytes or 0 for place in places)
    return DeletionPlan(key, tuple(sorted(numbers)), counts.documents, counts.chunks, size, places)


def remove_due(settings: Settings, db: Database, history: RunHistory) -> list[DeletionReceipt]:
    """Remove tenants whose grace is over, finish interrupted deletions, and remove what late writers left.

    Returns:
        The receipts. A deletion that another call is at is skipped, one that fails is logged; the next call tries
        again.
    """
    receipts = []
    for target in [*_due(db), *_find_orphans(settings, db, history)]:
        try:
            receipts.append(_Deletion(settings, db, history, target).run())
        except LeaseHeld:
            continue
        except (KbError, OSError):
            logger.exception("%s: not all of it could be removed; it is tried again next time", target.key)
    return receipts


def _due(db: Database) -> list[DeletionTarget]:
    with db.read_all() as session:
        rows = session.scalars(select(Tenant).where(Tenant.status.in_(["deleting", "removing"])))
        now = datetime.now(UTC)
        due = [DeletionTarget(row.tenant) for row in rows if row.status == "removing" or (row.delete_at or now) <= now]
        begun = [row.key for row in session.scalars(select(RetiredKey)) if is_unfinished(row.receipt)]
    return due + [
        DeletionTarget.parse(key) for key in begun if "/" in key and DeletionTarget(key.partition("/")[0]) not in due
    ]


def _find_orphans(settings: Settings, db: Database, history: RunHistory) -> Iterator[DeletionTarget]:
    """Yield deleted keys, not used again, that have files or runs: a process that outlived the deletion wrote them."""
    with db.read_all() as session:
        retired = {row.key for row in session.scalars(select(RetiredKey)) if not is_unfinished(row.receipt)}
        kept = set(session.scalars(select(Tenant.tenant)))
        kept |= {f"{tenant}/{kb}" for tenant, kb in session.execute(select(Kb.tenant, Kb.kb))}
    with_files = set(tenants_with_files(settings.data_dir))
    for key in sorted(retired - kept):
        target = DeletionTarget.parse(key)
        if target.kb and target.tenant not in kept:
            continue  # its tenant's deletion covers it
        has_files = target.tenant in with_files and bool(files_beneath(_folder(settings, target)))
        if has_files or any(history.count(target).values()):
            yield target


def _kept_receipt(db: Database, target: DeletionTarget, unknown: Exception) -> DeletionReceipt:
    with db.read_all() as session:
        row = session.get(RetiredKey, target.key)
    if row is None:
        raise unknown
    return DeletionReceipt.from_json(row.receipt)


class _Deletion:
    """One deletion, place by place. Rows go last: a call that goes on after a kill finds the other places by them."""

    def __init__(self, settings: Settings, db: Database, history: RunHistory, target: DeletionTarget) -> None:
        self._settings, self._db, self._history, self._target = settings, db, history, target
        self._owner = f"{_OWNER}{uuid.uuid4().hex[:12]}"
        self._receipt = DeletionReceipt(target.key, "unfinished", settings.actor)
        self._runs: set[str] = set()

    def run(self) -> DeletionReceipt:
        """Delete everything; the receipt says `unfinished` until everything has been looked through once more."""
        self._begin()
        failpoint("remove.begun")
        with self._fencing_leases() as leases:
            self._history.stop(self._target, WAIT_S)
            self._runs = self._known_runs()
            self._count_places(leases)
            failpoint("remove.listed")
            for path in self._logs():
                path.unlink()
            failpoint("remove.logs")
            self._history.remove(self._target)
            failpoint("remove.history")
            remove_abandoned(self._settings)
            if leases and self._target.kb:
                self._recover_usage(leases[0])
            remove_folder(_folder(self._settings, self._target))
            failpoint("remove.files")
            if leases and self._target.kb:
                self._delete_vectors(leases[0])
            failpoint("remove.vectors")
            self._finish(leases)
        failpoint("remove.finished")
        self._db.vacuum()
        return self._receipt

    def plan(self) -> tuple[DeletedPlace, ...]:
        """Return every place that holds something, and how much."""
        self._runs = self._known_runs()
        unused = sum(len(texts) for texts in self._unused_vectors().values())
        places = [*self._places(), DeletedPlace("embedding cache, texts that no other KB has", unused)]
        return tuple(place for place in places if place.removed)

    def _begin(self) -> None:
        """Record that the deletion has begun: from now on no run starts, and it cannot be taken back."""
        with self._db.write_all() as session:
            row = session.get(RetiredKey, self._target.key, with_for_update=True)
            before = DeletionReceipt.from_json(row.receipt) if row else None
            self._receipt = before if before and not before.is_finished else self._new_receipt(before)
            self._put_receipt(session, self._receipt)
            if self._target.kb:
                session.execute(delete(Kb).where(*_of_target(Kb, self._target)))
            elif (tenant := session.get(Tenant, self._target.tenant, with_for_update=True)) is not None:
                _check_due(tenant)
                tenant.status = "removing"

    def _new_receipt(self, before: DeletionReceipt | None) -> DeletionReceipt:
        """Return a new receipt, which keeps the earlier ones of a key that was deleted before."""
        earlier = (*before.earlier, replace(before, earlier=())) if before else ()
        return DeletionReceipt(
            self._target.key, "unfinished", self._settings.actor, datetime.now(UTC), earlier=earlier
        )  # fmt: skip

    def _put_receipt(self, session: Session, receipt: DeletionReceipt) -> None:
        row = session.get(RetiredKey, receipt.key)
        if row is None:
            row = RetiredKey(key=receipt.key)
            session.add(row)
        row.receipt, row.retired_at = receipt.as_json(), datetime.now(UTC)

    @contextmanager
    def _fencing_leases(self) -> Iterator[list[HeldLease]]:
        """Hold the lease of every KB that is deleted: a run that writes one of them fails at its next change."""
        with ExitStack() as stack:
            leases = []
            for key in self._kbs():
                _take_lease(self._db, key, self._owner)
                leases.append(stack.enter_context(hold_lease(self._db, key, self._owner)))
            yield leases

    def _kbs(self) -> list[KbKey]:
        """Return every KB with a row of any kind: an interrupted deletion may have left only some."""
        if self._target.kb:
            return [KbKey(self._target.tenant, self._target.kb)]
        with self._db.read_all() as session:
            models = [model for model in _models() if issubclass(model, OfKb)]
            names = {kb for m in models for kb in session.scalars(select(m.kb).where(m.tenant == self._target.tenant))}
        return [KbKey(self._target.tenant, kb) for kb in sorted(names - {DELETED_KBS})]

    def _count_places(self, leases: Sequence[HeldLease]) -> None:
        """Record what there is before anything is deleted, unless an interrupted call has recorded it."""
        if self._receipt.places is not None:
            return
        places = tuple(self._places())
        with self._db.write_all() as session:
            self._receipt = self._receipt.counted(tuple(str(lease.key) for lease in leases), places)
            self._put_receipt(session, self._receipt)

    def _places(self) -> Iterator[DeletedPlace]:
        """Yield every place that there is, and how much it holds."""
        yield _place(f"data/{self._target.key}", files_beneath(_folder(self._settings, self._target)))
        yield _place("logs", self._logs())
        for name, count in self._history.count(self._target).items():
            yield DeletedPlace(name, count)
        with self._db.read_all() as session:
            for name, count in _rows(session, self._target).items():
                yield DeletedPlace(f"table {name}", count)

    def _known_runs(self) -> set[str]:
        with self._db.read_all() as session:
            runs = set(session.scalars(select(Refresh.run_id).where(*_of_target(Refresh, self._target))))
        return runs | set(self._history.run_ids(self._target))

    def _logs(self) -> list[Path]:
        # Run ids come from outside: one that is not a plain file name has no log here.
        names = [f"{run_id}.log" for run_id in sorted(self._runs) if run_id == Path(run_id).name]
        return [path for name in names if (path := self._settings.logs_dir / name).is_file()]

    def _delete_vectors(self, lease: HeldLease) -> None:
        """Delete the cached vectors of texts that only this KB has; other KBs of the tenant may share a text."""
        for name, unused in self._unused_vectors().items():
            cache = KbStore(self._paths(lease.key), lambda: check_lease(self._db, lease)).vectors.open(name)
            removed = cache.purge_rows("text_hash", unused)
            self._receipt = self._receipt.with_place(DeletedPlace(f"embedding cache {name}", removed))

    def _unused_vectors(self) -> dict[str, list[str]]:
        key = KbKey(self._target.tenant, self._target.kb or "-")
        if not self._paths(key).vectors.exists():
            return {}
        return unused_vectors(KbStore(self._paths(key)).vectors, VECTORS_PREFIX, self._chunks_of_others())

    def _chunks_of_others(self) -> Iterator[LanceTable]:
        for record in list_kbs(self._db):
            if record.key.tenant == self._target.tenant and record.key.kb != self._target.kb:
                store = KbStore(self._paths(record.key))
                yield from chunk_tables(store, manifests_in_use(self._db, store, record.key, READER_GRACE))

    def _paths(self, key: KbKey) -> KbPaths:
        return KbPaths(self._settings.data_dir, key)

    def _finish(self, leases: Sequence[HeldLease]) -> None:
        """In one transaction, remove the rows, look through everything once more and write the receipts.

        Raises:
            DamagedStore: something was found; nothing of the transaction is kept.
        """
        with self._db.write_all() as session:
            self._remove_rows(session)
            checks = tuple(self._checks(session))
            if left := [check.as_json() for check in checks if check.found]:
                raise DamagedStore(self._target.key, f"still found after its removal: {left}")
            self._write_receipts(session, leases, checks)
            action = "kb.remove" if self._target.kb else "tenant.remove"
            receipt = self._receipt.as_entry()
            audit.record(session, audit.INSTALLATION, self._settings.actor, action, self._target.key, None, receipt)

    def _write_receipts(self, session: Session, leases: Sequence[HeldLease], checks: tuple[DeletionCheck, ...]) -> None:
        """Write the target's receipt, and one for each KB that is deleted with its tenant."""
        now, by = datetime.now(UTC), self._receipt.by
        tokens = {str(lease.key): self._last_token(session, lease) for lease in leases}
        if self._target.kb is None:
            for key, token in tokens.items():
                of_kb = DeletionReceipt(
                    key, "removed", by, removed_at=now, with_tenant=self._target.key, lease_token=token
                )  # fmt: skip
                self._put_receipt(session, of_kb)
        not_reached = (*_NOT_REACHED, _KEPT) if self._target.kb else _NOT_REACHED
        self._receipt = self._receipt.finished(now, checks, not_reached, tokens.get(self._target.key))
        self._put_receipt(session, self._receipt)

    def _recover_usage(self, lease: HeldLease) -> None:
        """Count what killed runs have used, which only their files say; these are deleted next."""
        store = KbStore(self._paths(lease.key), lambda: check_lease(self._db, lease))
        try:
            recover_usage(self._db, lease, store)
        except DamagedStore:
            logger.warning("%s: what killed runs have used cannot be counted any more", lease.key, exc_info=True)

    def _remove_rows(self, session: Session) -> None:
        if self._target.kb:
            keep_of_deleted(session, KbKey(self._target.tenant, self._target.kb))
        for model in _models():
            if _has_rows(model, self._target):
                session.execute(delete(model).where(*_of_target(model, self._target)))
        for client in session.scalars(select(HostClient).where(HostClient.tenant == self._target.tenant)):
            if not self._target.kb or client.client_id.partition(" ")[0] in self._runs:  # a run and its source
                session.delete(client)
        session.flush()

    def _last_token(self, session: Session, lease: HeldLease) -> int:
        """Return the last lease token of this KB or of one that had the key before."""
        row = session.get(RetiredKey, str(lease.key))
        return max(lease.token, int(row.receipt.get("lease_token", 0)) if row else 0)

    def _checks(self, session: Session) -> Iterator[DeletionCheck]:
        """Look through every place once more."""
        found = sum(_rows(session, self._target).values())
        yield DeletionCheck(f"{len(_models())} tables of the control plane", found)
        files = files_beneath(_folder(self._settings, self._target))
        yield DeletionCheck(f"data/{self._target.key}", len(files))
        yield DeletionCheck("logs", len(self._logs()))
        for name, count in self._history.count(self._target).items():
            yield DeletionCheck(name, count)
        if self._target.kb:
            unused = sum(len(hashes) for hashes in self._unused_vectors().values())
            yield DeletionCheck("embedding cache, texts that no KB of the tenant has", unused)


def _check_due(tenant: Tenant) -> None:
    is_due = tenant.status == "deleting" and tenant.delete_at is not None and tenant.delete_at <= datetime.now(UTC)
    if not (is_due or tenant.status == "removing"):
        name = tenant.tenant
        raise UsageError(f"{name}: is {tenant.status} and not due to be removed; see: kb tenant show {name}")


def _take_lease(db: Database, key: KbKey, owner: str) -> None:
    """Wait for the run that writes the KB, then take its lease over; another deletion keeps the lease.

    Raises:
        LeaseHeld: another deletion holds it, beyond the time in which a dead one would have lost it.
    """
    started = time.monotonic()
    while True:
        try:
            acquire_lease(db, key, owner)
        except LeaseHeld as held:
            is_deletion, waited_s = held.owner.startswith(_OWNER), time.monotonic() - started
            if is_deletion and waited_s > LEASE_S + _POLL_S:
                raise
            if not is_deletion and waited_s > WAIT_S:
                seize_lease(db, key, owner)
                return
            time.sleep(_POLL_S)
        else:
            return


def _models() -> list[Any]:
    """Return every table with a tenant column."""
    models = (mapper.class_ for mapper in Base.registry.mappers if issubclass(mapper.class_, OfTenant))
    return sorted(models, key=lambda model: model.__tablename__)


def _has_rows(model: Any, target: DeletionTarget) -> bool:  # noqa: ANN401 - a model
    return target.kb is None or hasattr(model, "kb")  # of a flag too, whose KB may be none


def _of_target(model: Any, target: DeletionTarget) -> list[ColumnElement[bool]]:  # noqa: ANN401 - a model
    of_tenant = [model.tenant == target.tenant]
    return [*of_tenant, model.kb == target.kb] if target.kb else of_tenant


def _rows(session: Session, target: DeletionTarget) -> dict[str, int]:
    """Count the target's rows by table, where there are any."""
    counts = {
        model.__tablename__: session.scalar(select(func.count()).select_from(model).where(*_of_target(model, target)))
        or 0
        for model in _models()
        if _has_rows(model, target)
    }
    return {name: count for name, count in counts.items() if count}


def _folder(settings: Settings, target: DeletionTarget) -> Path:
    if target.kb:
        return KbPaths(settings.data_dir, KbKey(target.tenant, target.kb)).root
    return tenant_folder(settings.data_dir, target.tenant)


def _place(place: str, files: Sequence[Path]) -> DeletedPlace:
    return DeletedPlace(place, len(files), sum(path.lstat().st_size for path in files))
