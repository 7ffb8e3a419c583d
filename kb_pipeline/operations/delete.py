"""Removes a tenant or a KB from everything this home stores, and proves it with a receipt.

What Dagster keeps of its runs is behind `RunHistory`.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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
from kb_pipeline.control.kbs.catalog import list_kbs
from kb_pipeline.control.metering.ledger import keep_of_deleted
from kb_pipeline.control.tenancy import audit
from kb_pipeline.control.tenancy.tenants import UNFINISHED
from kb_pipeline.errors import DamagedStore, KbError, LeaseHeld, UnknownKb, UnknownTenant, UsageError
from kb_pipeline.failpoints import failpoint
from kb_pipeline.maintenance.garbage_collection import chunk_tables, unused_vectors
from kb_pipeline.model import KbKey
from kb_pipeline.operations.backup import remove_abandoned
from kb_pipeline.operations.housekeeping import READER_GRACE, manifests_in_use
from kb_pipeline.operations.recover_usage import recover_usage
from kb_pipeline.settings import Settings
from kb_pipeline.store.durable_files import files_beneath, remove_folder
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.paths import KbPaths, tenant_folder, tenants_with_files
from kb_pipeline.store.stage_tables import VECTORS_PREFIX
from kb_pipeline.store.table import LanceTable

WAIT_S = 30.0
"""So long a run that was told to end may take for it; then its lease is taken away."""
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
    """What is removed: a tenant, or one KB of it."""

    tenant: str
    kb: str | None = None

    @classmethod
    def parse(cls, key: str) -> DeletionTarget:
        """As written in a receipt."""
        tenant, _, kb = key.partition("/")
        return cls(tenant, kb or None)

    @property
    def key(self) -> str:
        """`tenant` or `tenant/kb`."""
        return self.tenant if self.kb is None else f"{self.tenant}/{self.kb}"

    def covers(self, key: str) -> bool:
        """Whether a KB of that key goes."""
        return key == self.key if self.kb else key.startswith(f"{self.tenant}/")


class RunHistory(Protocol):
    """What is kept of runs outside of the control plane."""

    def stop(self, leaving: DeletionTarget, wait_s: float) -> None:
        """End what waits in a queue, and wait so long for what runs."""

    def run_ids(self, leaving: DeletionTarget) -> list[str]:
        """Return the ids of the known runs."""

    def count(self, leaving: DeletionTarget) -> dict[str, int]:
        """How many there are of each kind of record that names what leaves."""

    def remove(self, leaving: DeletionTarget) -> None:
        """Remove all of these records; killed half-way, the next call goes on."""


def delete_tenant(settings: Settings, db: Database, history: RunHistory, tenant: str) -> dict[str, Any]:
    """Remove a tenant whose time has come; killed on the way, the same call goes on.

    Returns:
        The receipt: what was removed where, and that nothing is left.

    Raises:
        UnknownTenant: there is none such, and there was none.
        UsageError: it is not to be deleted yet.
        LeaseHeld: another call is at it.
        DamagedStore: something of it was found after the removal.
    """
    leaving = DeletionTarget(tenant)
    with db.read(tenant) as session:
        row = session.get(Tenant, tenant)
    if row is None:
        return _kept_receipt(db, leaving, UnknownTenant(tenant))
    return _Removal(settings, db, history, leaving).run()


def delete_kb(settings: Settings, db: Database, history: RunHistory, key: KbKey) -> dict[str, Any]:
    """Remove one KB at once; killed on the way, the same call goes on.

    Returns:
        The receipt: what was removed where, and that nothing is left.

    Raises:
        UnknownKb: there is none such, and there was none.
        LeaseHeld: another call is at it.
        DamagedStore: something of it was found after the removal.
    """
    leaving = DeletionTarget(key.tenant, key.kb)
    with db.read(key.tenant) as session:
        is_known = session.get(Kb, (key.tenant, key.kb)) is not None
    if not is_known:
        receipt = _kept_receipt(db, leaving, UnknownKb(key))
        if receipt["status"] != UNFINISHED:
            return receipt
    return _Removal(settings, db, history, leaving).run()


def remove_due(settings: Settings, db: Database, history: RunHistory) -> list[dict[str, Any]]:
    """Remove every tenant whose time has come, go on with what was cut off, and sweep up after late writers.

    Returns:
        The receipts. What another call is at, or fails, is left to the next time and logged.
    """
    receipts = []
    for leaving in [*_due(db), *_find_orphans(settings, db, history)]:
        try:
            receipts.append(_Removal(settings, db, history, leaving).run())
        except LeaseHeld:
            continue
        except (KbError, OSError):
            logger.exception("%s: not all of it could be removed; it is tried again next time", leaving.key)
    return receipts


def _due(db: Database) -> list[DeletionTarget]:
    with db.read_all() as session:
        rows = session.scalars(select(Tenant).where(Tenant.status.in_(["deleting", "removing"])))
        now = datetime.now(UTC)
        due = [DeletionTarget(row.tenant) for row in rows if row.status == "removing" or (row.delete_at or now) <= now]
        begun = [row.key for row in session.scalars(select(RetiredKey)) if row.receipt.get("status") == UNFINISHED]
    return due + [
        DeletionTarget.parse(key) for key in begun if "/" in key and DeletionTarget(key.partition("/")[0]) not in due
    ]


def _find_orphans(settings: Settings, db: Database, history: RunHistory) -> Iterator[DeletionTarget]:
    """Yield deleted keys, unused since, that have files or runs: written by a process that outlived the deletion."""
    with db.read_all() as session:
        retired = {row.key for row in session.scalars(select(RetiredKey)) if row.receipt.get("status") != UNFINISHED}
        kept = set(session.scalars(select(Tenant.tenant)))
        kept |= {f"{tenant}/{kb}" for tenant, kb in session.execute(select(Kb.tenant, Kb.kb))}
    with_files = set(tenants_with_files(settings.data_dir))
    for key in sorted(retired - kept):
        leaving = DeletionTarget.parse(key)
        if leaving.kb and leaving.tenant not in kept:
            continue  # its tenant's removal covers it
        has_files = leaving.tenant in with_files and bool(files_beneath(_folder(settings, leaving)))
        if has_files or any(history.count(leaving).values()):
            yield leaving


def _kept_receipt(db: Database, leaving: DeletionTarget, unknown: Exception) -> dict[str, Any]:
    with db.read_all() as session:
        row = session.get(RetiredKey, leaving.key)
    if row is None:
        raise unknown
    return row.receipt


class _Removal:
    """One removal, place by place: what tells where to look (the rows) goes last."""

    def __init__(self, settings: Settings, db: Database, history: RunHistory, leaving: DeletionTarget) -> None:
        self._settings, self._db, self._history, self._leaving = settings, db, history, leaving
        self._owner = f"{_OWNER}{uuid.uuid4().hex[:12]}"
        self._receipt: dict[str, Any] = {}
        self._runs: set[str] = set()

    def run(self) -> dict[str, Any]:
        """Do all of it; the receipt says `unfinished` until everything has been looked through once more."""
        self._begin()
        failpoint("remove.begun")
        with self._fenced() as leases:
            self._history.stop(self._leaving, WAIT_S)
            self._runs = self._known_runs()
            self._take_stock(leases)
            failpoint("remove.listed")
            for path in self._logs():
                path.unlink()
            failpoint("remove.logs")
            self._history.remove(self._leaving)
            failpoint("remove.history")
            remove_abandoned(self._settings)
            if leases and self._leaving.kb:
                self._settle_usage(leases[0])
            remove_folder(_folder(self._settings, self._leaving))
            failpoint("remove.files")
            if leases and self._leaving.kb:
                self._forget_vectors(leases[0])
            failpoint("remove.vectors")
            self._finish(leases)
        failpoint("remove.finished")
        self._db.vacuum()
        return self._receipt

    def _begin(self) -> None:
        """From now on nobody starts anything here, and there is no way back."""
        with self._db.write_all() as session:
            row = session.get(RetiredKey, self._leaving.key, with_for_update=True)
            self._receipt = row.receipt if row and row.receipt.get("status") == UNFINISHED else self._new_receipt(row)
            self._put_receipt(session, self._leaving.key, self._receipt)
            if self._leaving.kb:
                session.execute(delete(Kb).where(*_mine(Kb, self._leaving)))
            elif (tenant := session.get(Tenant, self._leaving.tenant, with_for_update=True)) is not None:
                _check_due(tenant)
                tenant.status = "removing"

    def _new_receipt(self, before: RetiredKey | None) -> dict[str, Any]:
        """Return a new receipt, which keeps the earlier ones of a key that was deleted before."""
        earlier = [*before.receipt.get("earlier", []), _without(before.receipt, "earlier")] if before else []
        return {
            "key": self._leaving.key,
            "status": UNFINISHED,
            "begun_at": datetime.now(UTC).isoformat(),
            "by": self._settings.actor,
            "earlier": earlier,
        }

    def _put_receipt(self, session: Session, key: str, receipt: dict[str, Any]) -> None:
        row = session.get(RetiredKey, key)
        if row is None:
            row = RetiredKey(key=key)
            session.add(row)
        row.receipt, row.retired_at = dict(receipt), datetime.now(UTC)

    @contextmanager
    def _fenced(self) -> Iterator[list[HeldLease]]:
        """Hold the lease of every KB that goes: whoever wrote one of them is stopped at its next change."""
        with ExitStack() as stack:
            leases = []
            for key in self._kbs():
                _take_lease(self._db, key, self._owner)
                leases.append(stack.enter_context(hold_lease(self._db, key, self._owner)))
            yield leases

    def _kbs(self) -> list[KbKey]:
        """Every KB with a row of any kind: of one whose removal was cut off, few are left."""
        if self._leaving.kb:
            return [KbKey(self._leaving.tenant, self._leaving.kb)]
        with self._db.read_all() as session:
            models = [model for model in _models() if issubclass(model, OfKb)]
            names = {kb for m in models for kb in session.scalars(select(m.kb).where(m.tenant == self._leaving.tenant))}
        return [KbKey(self._leaving.tenant, kb) for kb in sorted(names - {DELETED_KBS})]

    def _take_stock(self, leases: Sequence[HeldLease]) -> None:
        """Record what there is before anything is deleted, or keep what an interrupted call has recorded."""
        if "places" in self._receipt:
            return
        data, logs = files_beneath(_folder(self._settings, self._leaving)), self._logs()
        places = [_place(f"data/{self._leaving.key}", data), _place("logs", logs)]
        places += [{"place": name, "removed": count} for name, count in self._history.count(self._leaving).items()]
        with self._db.write_all() as session:
            places += [{"place": f"table {n}", "removed": count} for n, count in _rows(session, self._leaving).items()]
            self._receipt |= {"kbs": [str(lease.key) for lease in leases], "places": places}
            self._put_receipt(session, self._leaving.key, self._receipt)

    def _known_runs(self) -> set[str]:
        with self._db.read_all() as session:
            runs = set(session.scalars(select(Refresh.run_id).where(*_mine(Refresh, self._leaving))))
        return runs | set(self._history.run_ids(self._leaving))

    def _logs(self) -> list[Path]:
        # Run ids come from outside: what is no plain name is no file of ours.
        names = [f"{run_id}.log" for run_id in sorted(self._runs) if run_id == Path(run_id).name]
        return [path for name in names if (path := self._settings.logs_dir / name).is_file()]

    def _forget_vectors(self, lease: HeldLease) -> None:
        """Delete the cached vectors of texts that only this KB had; other KBs of the tenant may share a text."""
        for name, unused in self._unused_vectors().items():
            cache = KbStore(self._paths(lease.key), lambda: check_lease(self._db, lease)).vectors.open(name)
            removed = cache.purge_rows("text_hash", unused)
            self._receipt["places"].append({"place": f"embedding cache {name}", "removed": removed})

    def _unused_vectors(self) -> dict[str, list[str]]:
        key = KbKey(self._leaving.tenant, self._leaving.kb or "-")
        if not self._paths(key).vectors.exists():
            return {}
        return unused_vectors(KbStore(self._paths(key)).vectors, VECTORS_PREFIX, self._chunks_of_others())

    def _chunks_of_others(self) -> Iterator[LanceTable]:
        for record in list_kbs(self._db):
            if record.key.tenant == self._leaving.tenant and record.key.kb != self._leaving.kb:
                store = KbStore(self._paths(record.key))
                yield from chunk_tables(store, manifests_in_use(self._db, store, record.key, READER_GRACE))

    def _paths(self, key: KbKey) -> KbPaths:
        return KbPaths(self._settings.data_dir, key)

    def _finish(self, leases: Sequence[HeldLease]) -> None:
        """Remove the rows, look through everything once more, write the receipts: all of it or nothing."""
        with self._db.write_all() as session:
            self._remove_rows(session)
            checks = list(self._checks(session))
            if left := [check for check in checks if check["found"]]:
                raise DamagedStore(self._leaving.key, f"still found after its removal: {left}")
            done = {"status": "removed", "removed_at": datetime.now(UTC).isoformat()}
            not_reached = [*_NOT_REACHED, _KEPT] if self._leaving.kb else [*_NOT_REACHED]
            self._receipt |= done | {"checks": checks, "not_reached": not_reached}
            for lease in leases:
                of_kb = {"key": str(lease.key), "by": self._receipt["by"], "with": self._leaving.key} | done
                self._put_receipt(session, str(lease.key), of_kb | {"lease_token": self._last_token(session, lease)})
            if self._leaving.kb:
                self._receipt["lease_token"] = self._last_token(session, leases[0])
            self._put_receipt(session, self._leaving.key, self._receipt)
            action = "kb.remove" if self._leaving.kb else "tenant.remove"
            said = _without(self._receipt, "earlier")
            audit.record(session, audit.INSTALLATION, self._settings.actor, action, self._leaving.key, None, said)

    def _settle_usage(self, lease: HeldLease) -> None:
        """Of what killed runs left unsaid, the files tell how much was used; soon nothing will."""
        store = KbStore(self._paths(lease.key), lambda: check_lease(self._db, lease))
        try:
            recover_usage(self._db, lease, store)
        except DamagedStore:
            logger.warning("%s: what killed runs have used cannot be told any more", lease.key, exc_info=True)

    def _remove_rows(self, session: Session) -> None:
        if self._leaving.kb:
            keep_of_deleted(session, KbKey(self._leaving.tenant, self._leaving.kb))
        for model in _models():
            if _has_rows(model, self._leaving):
                session.execute(delete(model).where(*_mine(model, self._leaving)))
        for client in session.scalars(select(HostClient).where(HostClient.tenant == self._leaving.tenant)):
            if not self._leaving.kb or client.client_id.partition(" ")[0] in self._runs:  # a run and its source
                session.delete(client)
        session.flush()

    def _last_token(self, session: Session, lease: HeldLease) -> int:
        """Of this KB or of one that had the key before."""
        row = session.get(RetiredKey, str(lease.key))
        return max(lease.token, int(row.receipt.get("lease_token", 0)) if row else 0)

    def _checks(self, session: Session) -> Iterator[dict[str, Any]]:
        """Look through every place once more."""
        found = sum(_rows(session, self._leaving).values())
        yield {"store": f"{len(_models())} tables of the control plane", "found": found}
        files = files_beneath(_folder(self._settings, self._leaving))
        yield {"store": f"data/{self._leaving.key}", "found": len(files)}
        yield {"store": "logs", "found": len(self._logs())}
        for name, count in self._history.count(self._leaving).items():
            yield {"store": name, "found": count}
        if self._leaving.kb:
            unused = sum(len(hashes) for hashes in self._unused_vectors().values())
            yield {"store": "embedding cache, texts that no KB of the tenant has", "found": unused}


def _check_due(tenant: Tenant) -> None:
    is_due = tenant.status == "deleting" and tenant.delete_at is not None and tenant.delete_at <= datetime.now(UTC)
    if not (is_due or tenant.status == "removing"):
        name = tenant.tenant
        raise UsageError(f"{name}: is {tenant.status} and not due to be removed; see: kb tenant show {name}")


def _take_lease(db: Database, key: KbKey, owner: str) -> None:
    """Wait for whoever writes the KB, then take its place; another removal is waited for and not disturbed."""
    started = time.monotonic()
    while True:
        try:
            acquire_lease(db, key, owner)
        except LeaseHeld as held:
            is_removal, waited_s = held.owner.startswith(_OWNER), time.monotonic() - started
            if is_removal and waited_s > LEASE_S + _POLL_S:
                raise
            if not is_removal and waited_s > WAIT_S:
                seize_lease(db, key, owner)
                return
            time.sleep(_POLL_S)
        else:
            return


def _models() -> list[Any]:
    """Every table of tenants, those of later releases as well."""
    models = (mapper.class_ for mapper in Base.registry.mappers if issubclass(mapper.class_, OfTenant))
    return sorted(models, key=lambda model: model.__tablename__)


def _has_rows(model: Any, leaving: DeletionTarget) -> bool:  # noqa: ANN401 - a model
    return leaving.kb is None or hasattr(model, "kb")  # of a flag too, whose KB may be none


def _mine(model: Any, leaving: DeletionTarget) -> list[ColumnElement[bool]]:  # noqa: ANN401 - a model
    mine = [model.tenant == leaving.tenant]
    return [*mine, model.kb == leaving.kb] if leaving.kb else mine


def _rows(session: Session, leaving: DeletionTarget) -> dict[str, int]:
    """Rows by table, where there are any."""
    counts = {
        model.__tablename__: session.scalar(select(func.count()).select_from(model).where(*_mine(model, leaving))) or 0
        for model in _models()
        if _has_rows(model, leaving)
    }
    return {name: count for name, count in counts.items() if count}


def _folder(settings: Settings, leaving: DeletionTarget) -> Path:
    if leaving.kb:
        return KbPaths(settings.data_dir, KbKey(leaving.tenant, leaving.kb)).root
    return tenant_folder(settings.data_dir, leaving.tenant)


def _place(place: str, files: Sequence[Path]) -> dict[str, Any]:
    return {"place": place, "removed": len(files), "bytes": sum(path.lstat().st_size for path in files)}


def _without(receipt: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in receipt.items() if key != name}
