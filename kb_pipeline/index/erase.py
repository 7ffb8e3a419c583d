"""Takes documents out of a KB's tables for good: at the head, in every version that is kept, and in the files beneath.

A row that Lance deletes stays in its data file and in the indexes until both are rewritten, and every version that
was published before still shows it. So each version is made again without the row, beside the old one; the old ones
are then removed at once, readers or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from kb_pipeline.index.build import remake_indexes
from kb_pipeline.index.candidate import describe_content, write_manifest
from kb_pipeline.tables import CHUNKS, DOCUMENTS, INDEX_PREFIX, PAGES, KbStore, LanceTable, sql_in

_ID_COLUMNS = {"pages": "page_id", "documents": "document_id", "chunks": "document_id", "index": "document_id"}
_NOW = timedelta(0)


@dataclass(slots=True)
class Purge:
    """What came of making the tables of a KB again without some documents."""

    rows: dict[str, int] = field(default_factory=dict)
    """Rows taken out of each table, over all its versions."""
    manifests: list[dict[str, Any]] = field(default_factory=list)
    """The manifests of the versions kept, with new pins, counts and content."""


def texts_of(store: KbStore, document_ids: Sequence[str], manifests: Sequence[Mapping[str, Any]]) -> set[str]:
    """Hashes of every text that was embedded for these documents, at the head and in every version kept."""
    where = sql_in("document_id", document_ids)
    return {
        text_hash
        for table in _versions_of(store, CHUNKS, "chunks", manifests)
        for text_hash in table.narrow(["text_hash"], where)["text_hash"]
    }


def texts_in_use(store: KbStore, manifests: Sequence[Mapping[str, Any]], of: set[str]) -> set[str]:
    """Which of these text hashes some chunk of the KB has, at the head or in a version kept."""
    where = sql_in("text_hash", sorted(of))
    return {
        text_hash
        for table in _versions_of(store, CHUNKS, "chunks", manifests)
        for text_hash in table.narrow(["text_hash"], where)["text_hash"]
    }


def keys_with_the_same_bytes(
    store: KbStore, document_ids: Sequence[str], manifests: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Keys of other documents whose bytes or text are those of the documents, now or in a version kept."""
    found: set[str] = set()
    for table in _versions_of(store, DOCUMENTS, "documents", manifests):
        ours = table.narrow(["raw_sha256", "content_sha256"], sql_in("document_id", document_ids))
        for column in ours.columns:
            if values := ours[column].drop_nulls().unique().to_list():
                others = f"{sql_in(column, values)} AND NOT ({sql_in('document_id', document_ids)})"
                found.update(table.narrow(["key"], others)["key"])
    return sorted(found)


def find_documents(store: KbStore, key: str, manifests: Sequence[Mapping[str, Any]]) -> list[str]:
    """The ids under which any source ever stored that key, at the head or in a version kept."""
    found: set[str] = set()
    for table in _versions_of(store, PAGES, "pages", manifests):
        found.update(table.narrow(["page_id"], sql_in("key", [key]))["page_id"])
    for table in _versions_of(store, DOCUMENTS, "documents", manifests):
        found.update(table.narrow(["document_id"], sql_in("key", [key]))["document_id"])
    return sorted(found)


def purge_tables(store: KbStore, document_ids: Sequence[str], manifests: Sequence[Mapping[str, Any]]) -> Purge:
    """Make the head and every version kept again without the documents.

    The versions' tags still name what was there before: the caller records the new manifests first, then calls
    `settle_purge`. Killed in between, doing all of it again comes to the same end.
    """
    purge, made = Purge(), dict[tuple[str, int], int]()
    heads = {name: store.tables.open(name).version for name in _names(store, manifests)}
    for manifest in sorted(manifests, key=lambda m: int(m["version"])):
        pins = {}
        for role, pin in manifest["tables"].items():
            place = (pin["name"], pin["version"])
            if place not in made:
                made[place] = _without(store, role, *place, document_ids, purge)
                store.tables.open(pin["name"]).tag(_new_tag(manifest), made[place])
            pins[role] = {"name": pin["name"], "version": made[place]}
        purge.manifests.append({**manifest, **describe_content(store, {**manifest, "tables": pins}), "tables": pins})
    for name, version in heads.items():
        _without(store, _role_of(name), name, version, document_ids, purge)
    return purge


def settle_purge(store: KbStore, purge: Purge) -> int:
    """Move the versions' tags to what was made again and remove everything older; returns the bytes freed."""
    for manifest in purge.manifests:
        for pin in manifest["tables"].values():
            table = store.tables.open(pin["name"])
            table.tag(f"v{manifest['version']}", pin["version"])
            table.untag(_new_tag(manifest))
        write_manifest(store, manifest)
    names = _names(store, purge.manifests)
    return sum(store.tables.open(name).cleanup(_NOW, unfinished=True) for name in names)


def rows_left(
    store: KbStore, document_ids: Sequence[str], manifests: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, int]]:
    """Every table, and how many rows of the documents it still shows at its head and in the versions kept."""
    for name in _names(store, manifests):
        where = sql_in(_ID_COLUMNS[_role_of(name)], document_ids)
        tables = _versions_of(store, name, _role_of(name), manifests)
        yield name, sum(table.count(where) for table in tables)


def _without(store: KbStore, role: str, name: str, version: int, document_ids: Sequence[str], purge: Purge) -> int:
    """The version of the table that has all of the given one's rows but the documents', in new files."""
    table = store.tables.open(name)
    table.restore(version)
    where = sql_in(_ID_COLUMNS[role], document_ids)
    purge.rows[name] = purge.rows.get(name, 0) + table.count(where)
    table.delete(_ID_COLUMNS[role], document_ids)
    table.rewrite_deleted()
    if role == "index":
        remake_indexes(table)
    return table.version


def _versions_of(store: KbStore, name: str, role: str, manifests: Sequence[Mapping[str, Any]]) -> Iterator[LanceTable]:
    """The table at its head and at every version that a manifest pins; the index table is named by its model."""
    if not store.tables.exists(name):
        return
    yield store.tables.open(name)
    pins = {m["tables"][role]["version"] for m in manifests if m["tables"][role]["name"] == name}
    for version in sorted(pins):
        yield store.tables.open(name, version)


def _names(store: KbStore, manifests: Sequence[Mapping[str, Any]]) -> list[str]:
    pinned = {pin["name"] for manifest in manifests for pin in manifest["tables"].values()}
    names = {PAGES, DOCUMENTS, CHUNKS, *pinned, *store.tables.names(INDEX_PREFIX)}
    return sorted(name for name in names if store.tables.exists(name))


def _role_of(name: str) -> str:
    return name if name in (PAGES, DOCUMENTS, CHUNKS) else "index"


def _new_tag(manifest: Mapping[str, Any]) -> str:
    return f"v{manifest['version']}-erased"
