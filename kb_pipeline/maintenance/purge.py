"""Takes documents out of a KB's tables for good: at the head, in every version that is kept, and in the files beneath.

A row that Lance deletes stays in its data file and in the indexes until both are rewritten, and every version that
was published before still shows it. So each version is made again without the row, beside the old one; the old ones
are then removed at once, readers or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta

from kb_pipeline.failpoints import failpoint
from kb_pipeline.index.build import remake_indexes
from kb_pipeline.index.content import describe_content
from kb_pipeline.maintenance.garbage_collection import table_states
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.manifest import Manifest, TablePin, write_manifest
from kb_pipeline.store.stage_tables import CHUNKS, DOCUMENTS, INDEX, INDEX_PREFIX, PAGES, STAGE_TABLES, role_of
from kb_pipeline.store.table import LanceTable, sql_in

ERASED = "erased"
"""Reason of the row that says of a key why it is not fetched."""
LIFTED = "lifted"
"""Reason of the row, and in the place of a SHA-256, that has a key be asked for though no page may link to it anew."""
_NOT_A_REFUSAL = f"(reason IS NULL OR reason <> '{ERASED}')"
_HEAD_TAG = "head-before-erasing"
_NEW_TAG = "-erased"
"""Behind the name of a version's tag: what the version is to be from now on."""
_NOW = timedelta(0)


@dataclass(slots=True)
class Purge:
    """What came of making the tables of a KB again without some documents."""

    rows: dict[str, int] = field(default_factory=dict)
    """Rows taken out of each table, over all its versions."""
    manifests: list[Manifest] = field(default_factory=list)
    """The manifests of the versions kept, with new pins, counts and content."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The row that `pages` has of a key that must not be fetched any more."""

    page_id: str
    source: str
    key: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Twins:
    """Other documents that say the same, by their keys."""

    same: list[str]
    """Their bytes or their text are the document's, now or in a version kept."""
    stood_for: list[str]
    """Of these, those that the document stood for in the index."""


def twins_of(store: KbStore, document_ids: Sequence[str], manifests: Sequence[Manifest]) -> Twins:
    """Find other documents whose bytes or text are those of the documents, now or in a version kept."""
    same, stood_for = set[str](), set[str]()
    others = f"NOT ({sql_in('document_id', document_ids)})"
    for table in table_states(store, manifests, "documents", DOCUMENTS):
        ours = table.read_columns(["raw_sha256", "content_sha256"], sql_in("document_id", document_ids))
        for column in ours.columns:
            if values := ours[column].drop_nulls().unique().to_list():
                same.update(table.read_columns(["key"], f"{sql_in(column, values)} AND {others}")["key"])
        for column in {"duplicate_of", "view_of"} & set(table.schema.names):
            stood_for.update(table.read_columns(["key"], f"{sql_in(column, document_ids)} AND {others}")["key"])
    return Twins(sorted(same), sorted(stood_for))


def find_documents(store: KbStore, key: str, manifests: Sequence[Manifest]) -> list[str]:
    """Return the document ids of a key in any source, at the head or in a kept version."""
    found: set[str] = set()
    where = sql_in("key", [key])
    for table in table_states(store, manifests, "pages", PAGES):
        found.update(table.read_columns(["page_id"], f"{where} AND {_NOT_A_REFUSAL}")["page_id"])
    for table in table_states(store, manifests, "documents", DOCUMENTS):
        found.update(table.read_columns(["document_id"], where)["document_id"])
    return sorted(found)


def purge_tables(
    store: KbStore,
    document_ids: Sequence[str],
    manifests: Sequence[Manifest],
    refusals: Sequence[Refusal],
    *,
    resumed: bool,
) -> Purge:
    """Make the head and every version kept again without the documents.

    The versions' tags still name what was there before: the caller records the new manifests first, then calls
    `finish_purge`. Killed in between, doing all of it again comes to the same end.

    Args:
        store: the KB.
        document_ids: whose rows go.
        manifests: of the versions kept.
        refusals: rows that `pages` has of the documents from now on.
        resumed: whether an erasure that was killed goes on: the heads are those that it found.
    """
    purge, made = Purge(), dict[TablePin, TablePin]()
    heads = {name: _mark_head(store.tables.open(name), resumed=resumed) for name in _names(store, manifests)}
    depths = _depths(store, document_ids, heads)
    for manifest in sorted(manifests, key=lambda each: each.version):
        pins = {}
        for role, pin in manifest.tables.items():
            if pin not in made:
                made[pin] = _without(store, role, pin, document_ids, purge)
            store.tables.open(pin.name).tags.put(_new_tag(manifest), made[pin].version)
            pins[role] = made[pin]
        purge.manifests.append(_made_again(store, manifest, pins))
    for name, version in heads.items():
        head = TablePin(name, version)
        if head in made:
            store.tables.open(name).restore(made[head].version)
        else:
            _without(store, role_of(name), head, document_ids, purge)
    if PAGES in heads:
        _refuse(store.tables.open(PAGES), refusals, depths)
    return purge


def finish_purge(store: KbStore, purge: Purge) -> int:
    """Move the versions' tags to what was made again and remove everything older; returns the bytes freed."""
    names = _names(store, purge.manifests)
    for name in names:
        store.tables.open(name).tags.remove(_HEAD_TAG)
    for manifest in purge.manifests:
        for pin in manifest.tables.values():
            store.tables.open(pin.name).tags.put(f"v{manifest.version}", pin.version)
        write_manifest(store.paths, manifest)
        failpoint("erase.manifest.after")
    for name in names:
        table = store.tables.open(name)
        for tag in table.tags.versions():
            if tag.endswith(_NEW_TAG):
                table.tags.remove(tag)
    return sum(store.tables.open(name).maintenance.cleanup(_NOW, unfinished=True) for name in names)


def rows_left(store: KbStore, document_ids: Sequence[str], manifests: Sequence[Manifest]) -> Iterator[tuple[str, int]]:
    """Yield each place of the tables that was looked into, and how many rows (or unneeded versions) are there.

    What was deleted must not lie in the files either, nor in a version that is on disk still.
    """
    for name in _names(store, manifests):
        role, beneath, rows = role_of(name), 0, 0
        where = sql_in(STAGE_TABLES[role].document, document_ids) + (f" AND {_NOT_A_REFUSAL}" if role == PAGES else "")
        for table in table_states(store, manifests, role, name):
            rows += table.count(where)
            beneath += table.maintenance.deleted_rows()
        yield f"table {name}, head and versions kept", rows
        yield f"table {name}, deleted rows in its files", beneath
        yield f"table {name}, earlier versions", store.tables.open(name).maintenance.untagged_versions()


def ask_again(store: KbStore, document_ids: Sequence[str]) -> None:
    """Make the next refresh ask for documents whose erasure was lifted, whether or not a page links to them anew."""
    import pyarrow as pa

    if not store.tables.exists(PAGES) or not store.tables.exists(DOCUMENTS):
        return
    pages, documents = store.tables.open(PAGES), store.tables.open(DOCUMENTS)
    where = f"{sql_in('page_id', document_ids)} AND reason = '{ERASED}'"
    rows = pages.read_columns(["page_id", "source", "key"], where).to_dicts()
    if not rows:
        return
    why = {"outcome": "failed", "reason": LIFTED, "message": "its erasure was lifted; the next refresh fetches it"}
    # As many documents as pages with bytes, at every moment: until it comes it is one that failed.
    failed = [
        {"document_id": row["page_id"], "source": row["source"], "key": row["key"], "raw_sha256": LIFTED, **why}
        for row in rows
    ]
    documents.upsert(pa.Table.from_pylist(failed, schema=documents.schema))
    ids = [row["page_id"] for row in rows]
    pages.set_where("page_id", ids, {**why, "sha256": LIFTED})


def _mark_head(table: LanceTable, *, resumed: bool) -> int:
    """Tag the head, so that it is still known if the erasure is killed; return its version."""
    tags = table.tags.versions()
    if resumed and _HEAD_TAG in tags:
        return tags[_HEAD_TAG]
    version = table.version
    table.tags.put(_HEAD_TAG, version)
    return version


def _depths(store: KbStore, page_ids: Sequence[str], heads: Mapping[str, int]) -> dict[str, int]:
    """Return how far from a start page each was found: what it links to is as far as it was."""
    if PAGES not in heads:
        return {}
    rows = store.tables.open(PAGES, heads[PAGES]).read_columns(["page_id", "depth"], sql_in("page_id", page_ids))
    return {page_id: depth or 0 for page_id, depth in rows.iter_rows()}


def _refuse(pages: LanceTable, refusals: Sequence[Refusal], depths: Mapping[str, int]) -> None:
    import pyarrow as pa

    if refusals:
        rows = [{**asdict(each), "outcome": "rejected", "depth": depths.get(each.page_id, 0)} for each in refusals]
        pages.upsert(pa.Table.from_pylist(rows, schema=pages.schema))


def _made_again(store: KbStore, manifest: Manifest, pins: Mapping[str, TablePin]) -> Manifest:
    """Return the manifest with other pins, and with what follows from the rows that they name."""
    documents, index = (store.tables.open(pins[role].name, pins[role].version) for role in ("documents", "index"))
    content = describe_content(documents, index, manifest.model.fingerprint, manifest.code["index"])
    return replace(manifest, tables=pins, content=content)


def _without(store: KbStore, role: str, pin: TablePin, document_ids: Sequence[str], purge: Purge) -> TablePin:
    """Make the version of a table anew, with all rows of the given one but the documents', in new files."""
    table = store.tables.open(pin.name)
    table.restore(pin.version)
    where = sql_in(STAGE_TABLES[role].document, document_ids)
    purge.rows[pin.name] = purge.rows.get(pin.name, 0) + table.count(where)
    table.delete(STAGE_TABLES[role].document, document_ids)
    table.maintenance.rewrite_deleted()
    if role == INDEX:
        remake_indexes(table)
    return TablePin(pin.name, table.version)


def _names(store: KbStore, manifests: Sequence[Manifest]) -> list[str]:
    pinned = {pin.name for manifest in manifests for pin in manifest.tables.values()}
    names = {PAGES, DOCUMENTS, CHUNKS, *pinned, *store.tables.names(INDEX_PREFIX)}
    return sorted(name for name in names if store.tables.exists(name))


def _new_tag(manifest: Manifest) -> str:
    return f"v{manifest.version}{_NEW_TAG}"
