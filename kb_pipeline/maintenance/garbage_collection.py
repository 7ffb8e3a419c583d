"""Frees the disk of table versions, tables and vectors that no version of a KB needs, and keeps tables dense.

Which versions are needed is the caller's to say, by their manifests; nothing that one of them or the head names is
removed, and where a version cannot be read, nothing is removed at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import timedelta

from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.lance_database import LanceDatabase
from kb_pipeline.store.manifest import Manifest, manifest_numbers, manifest_path
from kb_pipeline.store.stage_tables import CHUNKS, DOCUMENTS, INDEX_PREFIX, PAGES
from kb_pipeline.store.table import LanceTable

_HEADS = (PAGES, DOCUMENTS, CHUNKS)


def tidy_tables(store: KbStore, live: Manifest | None) -> None:
    """Rewrite what is wasteful in the stage tables that changed since the live version; most often a few files."""
    pinned = {pin.name: pin.version for pin in live.tables.values()} if live else {}
    for name in _HEADS:
        if store.tables.exists(name):
            table = store.tables.open(name)
            if table.version != pinned.get(name):
                table.optimize()


def clean_tables(store: KbStore, kept: Collection[int], older_than: timedelta) -> int:
    """Untag all versions but those kept, then remove what no tag holds; returns the bytes freed."""
    freed = 0
    for name in (*_HEADS, *store.tables.names(INDEX_PREFIX)):
        if store.tables.exists(name):
            table = store.tables.open(name)
            for tag in table.tags.versions():
                if tag.removeprefix("v").isdecimal() and int(tag.removeprefix("v")) not in kept:
                    table.tags.remove(tag)
            freed += table.maintenance.cleanup(older_than)
    for number in manifest_numbers(store.paths) - set(kept):
        manifest_path(store.paths, number).unlink(missing_ok=True)
    return freed


def drop_tables(folder: LanceDatabase, prefix: str, kept: Collection[str], grace: timedelta) -> int:
    """Remove the tables with that prefix that are not kept and were not written for so long; returns how many."""
    dropped = 0
    for name in folder.names(prefix):
        if name not in kept and folder.age_s(name) >= grace.total_seconds():
            folder.drop(name)
            dropped += 1
    return dropped


def collect_vectors(vectors: LanceDatabase, prefix: str, chunks: Iterable[LanceTable]) -> int:
    """Remove the cached vectors of texts that none of the chunk tables has; returns how many."""
    removed = 0
    for name, unused in unused_vectors(vectors, prefix, chunks).items():
        if unused:
            cache = vectors.open(name)
            cache.delete("text_hash", unused)
            # All that is due at once: what the day's refreshes rewrote would lie there twice until the night.
            cache.optimize(share=1)
        removed += len(unused)
    return removed


def unused_vectors(vectors: LanceDatabase, prefix: str, chunks: Iterable[LanceTable]) -> dict[str, list[str]]:
    """Return, by cache table, the hashes of the texts that none of the chunk tables has."""
    # The cache is read first: a text that comes meanwhile is in its KB's chunks before it is embedded.
    unused = {name: vectors.open(name).read_columns(["text_hash"]).unique() for name in vectors.names(prefix)}
    for table in chunks:
        used = table.read_columns(["text_hash"]).unique()
        unused = {name: hashes.join(used, on="text_hash", how="anti") for name, hashes in unused.items()}
    return {name: sorted(hashes["text_hash"]) for name, hashes in unused.items()}


def chunk_tables(store: KbStore, kept: Iterable[Manifest]) -> Iterator[LanceTable]:
    """Yield the chunks table at its head and at every kept version, each state once."""
    yield from table_states(store, kept, "chunks", CHUNKS)


def table_states(store: KbStore, kept: Iterable[Manifest], role: str, name: str) -> Iterator[LanceTable]:
    """Yield a table at its head and at every kept version, each state once; the index table is named by its model."""
    if not store.tables.exists(name):
        return
    head = store.tables.open(name)
    yield head
    pins = [manifest.tables[role] for manifest in kept]
    for version in sorted({pin.version for pin in pins if pin.name == name} - {head.version}):
        yield store.tables.open(name, version)
