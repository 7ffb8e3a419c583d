"""Makes the head of a KB's tables readable again after damage: back to the last version that is whole, or empty.

What a stage finds missing it makes again from what is before it, so an emptied table costs work and loses nothing;
only damaged raw bytes have to be fetched once more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.lance_database import LanceDatabase
from kb_pipeline.store.manifest import Manifest
from kb_pipeline.store.raw_segments import quarantine_damaged
from kb_pipeline.store.stage_tables import CHUNKS, DOCUMENTS, INDEX_PREFIX, PAGES, VECTORS_PREFIX

DAMAGED = "damaged"
"""In the place of a SHA-256 in `pages`: the bytes cannot be read and are to be fetched again."""

_DAMAGE = frozenset({"counts_reconcile", "keys_unique", "columns_readable", "nothing_unindexed", "model_matches"})
"""Checks whose failure says that the tables are not what the stages made of the sources."""
_BAD_VECTORS = frozenset({"vectors_valid", "vectors_match"})


def repair_heads(store: KbStore, live: Manifest | None) -> list[str]:
    """Read every table and raw segment whole and repair what cannot be read; returns what was done, in sentences.

    Damaged files are moved to the KB's folder `quarantine`, not removed.
    """
    good = {pin.name: pin.version for pin in live.tables.values()} if live else {}
    names = [PAGES, DOCUMENTS, CHUNKS, *store.tables.names(INDEX_PREFIX)]
    done = _repair_tables(store, store.tables, names, good)
    done += _repair_tables(store, store.vectors, store.vectors.names(VECTORS_PREFIX), {})
    return done + _repair_raw(store)


def reset_heads(store: KbStore, live: Manifest | None, gates: Sequence[str]) -> list[str]:
    """Start again from the live version, or from nothing, when a check says that the head is no ground to build on.

    Args:
        store: the KB.
        live: manifest of the live version, if there is one.
        gates: names of the checks that failed.

    Returns:
        What was done; nothing when the failure is about the sources and not about what is stored.
    """
    if not (_DAMAGE | _BAD_VECTORS).intersection(gates):
        return []
    good = {pin.name: pin.version for pin in live.tables.values()} if live else {}
    for name in [PAGES, DOCUMENTS, CHUNKS, *store.tables.names(INDEX_PREFIX)]:
        table = store.tables.open(name)
        table.restore(good[name]) if name in good else table.clear()
    done = [f"went back to version {live.version}" if live else "emptied the tables of the first build"]
    if _BAD_VECTORS.intersection(gates):
        for name in store.vectors.names(VECTORS_PREFIX):
            store.vectors.open(name).clear()
        done.append("emptied the tenant's embedding cache, which had given bad vectors")
    return done


def _repair_tables(store: KbStore, folder: LanceDatabase, names: Sequence[str], good: Mapping[str, int]) -> list[str]:
    repaired = (folder.repair(name, good.get(name), store.paths.quarantine) for name in names if folder.exists(name))
    return [what for what in repaired if what is not None]


def _repair_raw(store: KbStore) -> list[str]:
    """Quarantine unreadable segments; their pages lose their validators and are fetched again."""
    damaged = quarantine_damaged(store.paths.raw, store.paths.quarantine)
    if not damaged:
        return []
    pages = store.tables.open(PAGES)
    pages.set_where("segment", damaged, {"sha256": DAMAGED, "etag": None, "last_modified": None, "segment": None})
    return [f"{len(damaged)} raw segments cannot be read: their pages are fetched again"]
