"""Frees the data of superseded versions and crashed runs, once no reader can need it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from kb_pipeline.control.coordination.host_limits import delete_idle_hosts
from kb_pipeline.control.coordination.idempotency import forget_old_requests
from kb_pipeline.control.coordination.leases import HeldLease, check_lease, hold_lease, release_lease
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs import versions
from kb_pipeline.control.kbs.catalog import get_kb, list_kbs
from kb_pipeline.control.kbs.drafts import forget_expired_drafts
from kb_pipeline.control.runs.jobs import forget_old_jobs
from kb_pipeline.embed.models import model_fingerprint
from kb_pipeline.embed.refresh import vectors_name
from kb_pipeline.errors import InvalidSpec, LeaseHeld, LeaseLost, SecretUnreadable
from kb_pipeline.index.build import index_name
from kb_pipeline.maintenance import compact_raw, garbage_collection
from kb_pipeline.model import JsonObject, KbKey, Record
from kb_pipeline.operations.recover_usage import recover_tokens
from kb_pipeline.settings import Settings
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.manifest import Manifest, manifest_numbers
from kb_pipeline.store.paths import KbPaths
from kb_pipeline.store.stage_tables import INDEX_PREFIX, VECTORS_PREFIX

READER_GRACE = timedelta(minutes=10)
"""Grace period for readers of a pruned version."""
_CACHE_GRACE = timedelta(days=1)
"""Grace period for builds, which read the state of the vector cache that they opened and put no tag on it. It costs the
disk space of what a day's refreshes of all the tenant's KBs rewrite of the cache."""
_PENDING = ("candidate", "held")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FreedSpace(Record):
    """The bytes that housekeeping has freed."""

    by_kb: Mapping[KbKey, int]
    """Of tables and raw segments; KBs that were being written are left out."""

    @property
    def total(self) -> int:
        """Of all KBs together."""
        return sum(self.by_kb.values())

    def as_json(self) -> JsonObject:
        """Return the bytes by `tenant/kb`."""
        return {str(key): freed for key, freed in self.by_kb.items()}


def tidy_all(
    settings: Settings,
    db: Database,
    run_id: str,
    grace: timedelta = READER_GRACE,
    cache_grace: timedelta = _CACHE_GRACE,
) -> FreedSpace:
    """Free space of every KB that no run writes, then of the tenants' caches."""
    freed: dict[KbKey, int] = {}
    tenants: dict[str, list[KbKey]] = {}
    for kb in list_kbs(db):
        tenants.setdefault(kb.key.tenant, []).append(kb.key)
        try:
            with _lease(db, kb.key, run_id) as lease:
                store, spec = _store(settings, db, lease), kb.read_spec(settings)
                freed[kb.key] = tidy_kb(store, db, lease, spec.retention.versions, spec.embedding.model, grace)
        except LeaseHeld:
            continue  # the run that writes it frees what it can when it publishes
        except (InvalidSpec, SecretUnreadable) as error:
            logger.warning("%s", error)  # a variable that one tenant lacks must not stop what is done for all
    for keys in tenants.values():
        try:
            tidy_vectors(settings, db, keys, run_id, grace, cache_grace)
        except LeaseHeld:
            continue  # a KB of the tenant is being written; the next night tries again
        except (InvalidSpec, SecretUnreadable):
            continue  # logged above
    delete_idle_hosts(db)
    forget_old_jobs(db)
    forget_old_requests(db)
    forget_expired_drafts(db)
    return FreedSpace(freed)


def tidy_kb(
    store: KbStore, db: Database, lease: HeldLease, keep: int, model: str, grace: timedelta = READER_GRACE
) -> int:
    """Prune versions beyond `keep` and free what none needs; returns the bytes freed of tables and raw segments.

    The index table of `model`, the KB file's embedding model, stays though no version names it yet.

    Errors are logged, and the next call tries again: a refresh that has published must not fail because of them.
    """
    freed = 0
    kept: list[Manifest] = []

    def tables() -> int:
        prune_versions(db, lease, keep)
        kept.extend(manifests_in_use(db, store, lease.key, grace))
        return garbage_collection.clean_tables(store, {manifest.version for manifest in kept}, grace)

    def indexes() -> int:
        names = {manifest.tables["index"].name for manifest in kept}
        current = index_name(model_fingerprint(model))
        garbage_collection.drop_tables(store.tables, INDEX_PREFIX, names | {current}, grace)
        return 0

    def raw() -> int:
        return compact_raw.collect_raw_segments(store, kept, grace, lambda: check_lease(db, lease))

    def dense() -> int:
        compact_raw.compact_raw_segments(store, kept)
        return 0

    steps: list[Callable[[], int]] = [tables, indexes, raw, dense]
    for step in steps:
        try:
            check_lease(db, lease)
            freed += step()
        except LeaseLost:
            logger.warning("%s: another run took over; what could be freed is left to it", lease.key)
            break
        except Exception:  # whatever it is, the version that was published is not to blame
            logger.warning("%s: tidying failed; it is tried again after the next refresh", lease.key, exc_info=True)
            break  # what the other steps remove depends on what this one found
    return freed


def prune_versions(db: Database, lease: HeldLease, keep: int) -> None:
    """Mark the searchable versions beyond the newest `keep` as pruned; their data stays for the readers' grace."""
    seen = 0
    for version in versions.list_versions(db, lease.key):
        if version.status in versions.SEARCHABLE:
            seen += 1
            if seen > keep and not version.live:
                versions.mark_pruned(db, lease, version.version)


def manifests_in_use(db: Database, store: KbStore, key: KbKey, grace: timedelta) -> list[Manifest]:
    """Return the manifests of versions whose data must stay: searchable, pending, or pruned within the grace period."""
    with_data = manifest_numbers(store.paths)
    kept = []
    for version in versions.list_versions(db, key):
        number, status = version.version, version.status
        if status in (*versions.SEARCHABLE, *_PENDING) or (status == "pruned" and number in with_data):
            manifest = versions.get_manifest(db, key, number)
            if status != "pruned" or _age(manifest) < grace:
                kept.append(manifest)
    return kept


def tidy_vectors(
    settings: Settings, db: Database, keys: list[KbKey], run_id: str, grace: timedelta, cache_grace: timedelta
) -> int:
    """Remove the vectors that no KB of a tenant needs from its cache; returns how many.

    Holds the leases of all of them meanwhile. A run that found a text in the cache relies on its staying there until
    the index is built, and may not have written the chunks yet by which the text is known to be needed.

    Raises:
        LeaseHeld: one of them is being written.
    """
    with ExitStack() as stack:
        leases = [stack.enter_context(_lease(db, key, run_id)) for key in sorted(keys)]
        stores = [_store(settings, db, lease) for lease in leases]
        for lease, store in zip(leases, stores, strict=True):
            recover_tokens(db, lease, store)  # the cache is the proof of what killed runs have embedded
        kept = [manifests_in_use(db, store, store.key, grace) for store in stores]
        tables = (
            table
            for store, its in zip(stores, kept, strict=True)
            for table in garbage_collection.chunk_tables(store, its)
        )
        fingerprints = {manifest.model.fingerprint for its in kept for manifest in its}
        fingerprints |= {model_fingerprint(get_kb(db, key).read_spec(settings).embedding.model) for key in keys}
        cache = KbStore(KbPaths(settings.data_dir, keys[0]), lambda: _check_all(db, leases)).vectors
        garbage_collection.drop_tables(
            cache, VECTORS_PREFIX, {vectors_name(each) for each in fingerprints}, cache_grace
        )
        removed = garbage_collection.collect_vectors(cache, VECTORS_PREFIX, tables)
        for name in cache.names(VECTORS_PREFIX):
            cache.open(name).maintenance.cleanup(cache_grace)
    return removed


@contextmanager
def _lease(db: Database, key: KbKey, run_id: str) -> Iterator[HeldLease]:
    """Hold the KB's lease within the context, and release it at its end, since no later step needs it."""
    with hold_lease(db, key, run_id) as lease:
        try:
            yield lease
        finally:
            release_lease(db, lease)


def _store(settings: Settings, db: Database, lease: HeldLease) -> KbStore:
    return KbStore(KbPaths(settings.data_dir, lease.key), lambda: check_lease(db, lease))


def _check_all(db: Database, leases: list[HeldLease]) -> None:
    for lease in leases:
        check_lease(db, lease)


def _age(manifest: Manifest) -> timedelta:
    """Return the time since it was pruned; the longest for one of a release that did not record when."""
    return datetime.now(UTC) - manifest.pruned_at if manifest.pruned_at else timedelta.max
