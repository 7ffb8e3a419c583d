"""Writes one version of a KB as Parquet files: its documents, its chunks with their vectors, its manifest."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kb_pipeline.errors import DamagedStore, KbError, UsageError
from kb_pipeline.index.documents import VALIDATORS
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.model import KbKey, Record
from kb_pipeline.store.durable_files import fsync_path, fsync_tree
from kb_pipeline.store.manifest import Counts
from kb_pipeline.store.stage_tables import kept_documents
from kb_pipeline.store.table import LanceTable

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_BATCH = 256
"""Rows read at a time."""
_GROUP_ROWS = 4096
_GROUP_CHARS = 16 << 20
"""Where a row group ends, by rows or by characters of text: what is held in memory at most, give or take a batch."""
_DOCUMENT_COLUMNS = (
    "document_id", "source", "key", "title", "language", "markdown", "canonical_url", "published", "modified",
    "raw_sha256", "fetched_at", "run_id",
)  # fmt: skip
_PAGE_COLUMNS = ("url", "sha256", *VALIDATORS)
_EXPORTED = (
    "document_id", "source", "key", "url", "title", "language", "markdown", "canonical_url", "published", "modified",
    "sha256", "etag", "last_modified", "content_type", "fetched_at", "run_id",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ExportedFile(Record):
    """A file of an export."""

    name: str
    bytes: int
    sha256: str
    rows: int | None
    """None for a file that is no table."""


@dataclass(frozen=True, slots=True)
class Export(Record):
    """What an export wrote, and where, as `kb export` prints it."""

    kb: KbKey
    version: int
    directory: Path
    documents: int
    chunks: int
    files: tuple[ExportedFile, ...]


def export_version(version: VersionReader, directory: Path) -> Export:
    """Write `documents.parquet`, `chunks.parquet` and `manifest.json` of a version.

    Rows stand in the order of keys and places, so two exports of one version are the same files. The directory
    appears whole or not at all.

    Raises:
        UsageError: the directory is there and not empty, or nothing can be written there; nothing was touched.
        DamagedStore: a table of the version cannot be read.
    """
    directory = _checked(directory)
    beside = directory.with_name(f".{directory.name}.{uuid.uuid4().hex}.part")
    try:
        beside.mkdir()
        rows = _write(version, beside)
        files = (
            _describe(beside / "documents.parquet", rows.documents),
            _describe(beside / "chunks.parquet", rows.chunks),
            _describe(beside / "manifest.json", None),
        )
        fsync_tree(beside)
        beside.rename(directory)  # fails if anything has come into it meanwhile
        fsync_path(directory.parent)
    except OSError as error:
        raise KbError(f"cannot export to {directory}: {error}; nothing was left there") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Export(version.key, version.number, directory, rows.documents, rows.chunks, files)


def _checked(directory: Path) -> Path:
    directory = directory.expanduser().resolve()
    if not str(directory).isprintable():  # also bytes that are no text, which Parquet's writer cannot take
        raise UsageError(f"{str(directory)!r} is not printable text; name another directory")
    try:
        if directory.exists() and not directory.is_dir():
            raise UsageError(f"{directory} is a file; name a directory that does not exist yet")
        directory.parent.mkdir(parents=True, exist_ok=True)
        is_full = directory.exists() and any(directory.iterdir())
    except OSError as error:
        raise UsageError(f"{directory} cannot be made: {error}") from None
    if is_full:
        raise UsageError(f"{directory} is not empty and was left as it is; name a directory that does not exist yet")
    if directory.is_mount():  # what is written beside it could not take its place
        raise UsageError(f"{directory} is a mount point; name a directory inside it")
    return directory


def _write(version: VersionReader, folder: Path) -> Counts:
    """Write the files; returns how many rows they have."""
    documents = _document_order(version)
    chunks = _chunk_order(version, documents)
    _write_parquet(folder / "documents.parquet", _document_rows(version, documents), "markdown")
    _write_parquet(folder / "chunks.parquet", _chunk_rows(version, chunks), "text")
    text = json.dumps(version.manifest.as_json(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    return Counts(documents.height, chunks.height)


def _document_order(version: VersionReader) -> pl.DataFrame:
    """Return the row ids of each document and its page, in the order to write them."""
    import polars as pl

    table = version.table("documents")
    where = kept_documents(table.schema.names)
    documents = table.read_columns(["document_id", "source", "key"], where, row_ids=True)
    pages = version.table("pages").read_columns(["page_id"], row_ids=True)
    pages = pages.select(pl.col("page_id").alias("document_id"), pl.col("_rowid").alias("page_row"))
    ordered = documents.sort("key", "source").with_row_index("rank").select("document_id", "_rowid", "rank")
    return _complete(ordered.join(pages, on="document_id", how="left", maintain_order="left"), version, "pages")


def _chunk_order(version: VersionReader, documents: pl.DataFrame) -> pl.DataFrame:
    """Return the row ids of each chunk and its vector, in the order to write them."""
    import polars as pl

    columns = ["chunk_id", "document_id", "ordinal"]
    chunks = version.table("chunks").read_columns(columns, row_ids=True)
    index = version.table("index").read_columns(["chunk_id"], row_ids=True)
    index = index.select("chunk_id", pl.col("_rowid").alias("index_row"))
    ranked = chunks.join(documents.select("document_id", "rank"), on="document_id", how="left")
    found = ranked.join(index, on="chunk_id", how="left").sort("rank", "ordinal")
    return _complete(found.select("_rowid", "index_row", "rank"), version, "index")


def _complete(rows: pl.DataFrame, version: VersionReader, role: str) -> pl.DataFrame:
    if lacking := rows.height - rows.drop_nulls().height:
        raise DamagedStore(
            str(version.store.paths.lance), f"{lacking} rows have nothing that belongs to them in {role}"
        )
    return rows


def _document_rows(version: VersionReader, order: pl.DataFrame) -> Iterator[pa.Table]:
    import pyarrow as pa
    import pyarrow.compute as pc

    documents, pages = version.table("documents"), version.table("pages")
    if order.is_empty():
        yield _empty_documents(documents, pages)
    for part in order.iter_slices(_BATCH):
        rows = _take(documents, part["_rowid"].to_list(), _DOCUMENT_COLUMNS)
        rows = rows.rename_columns({"raw_sha256": "sha256"})
        fetched = _take(pages, part["page_row"].to_list(), _PAGE_COLUMNS)
        # Validators of newer bytes, which could not be cleaned, are not those of the document that was kept.
        is_same = pc.equal(fetched["sha256"], rows["sha256"])
        rows = rows.append_column("url", fetched["url"])
        for name in VALIDATORS:
            rows = rows.append_column(name, pc.if_else(is_same, fetched[name], pa.scalar(None, pa.string())))
        yield rows.select(_EXPORTED)


def _empty_documents(documents: LanceTable, pages: LanceTable) -> pa.Table:
    import pyarrow as pa

    fields = [documents.schema.field(name) for name in _DOCUMENT_COLUMNS]
    fields += [pages.schema.field(name) for name in ("url", *VALIDATORS)]
    names = ["sha256" if field.name == "raw_sha256" else field.name for field in fields]
    return pa.schema(fields).empty_table().rename_columns(names).select(_EXPORTED)


def _chunk_rows(version: VersionReader, order: pl.DataFrame) -> Iterator[pa.Table]:
    chunks, index = version.table("chunks"), version.table("index")
    if order.is_empty():
        yield chunks.schema.append(index.schema.field("vector")).empty_table()
    for part in order.iter_slices(_BATCH):
        rows = _take(chunks, part["_rowid"].to_list(), chunks.schema.names)
        vectors = _take(index, part["index_row"].to_list(), ["vector"])
        yield rows.append_column(index.schema.field("vector"), vectors["vector"])


def _take(table: LanceTable, row_ids: Sequence[int], columns: Sequence[str]) -> pa.Table:
    (rows,) = table.take(row_ids, columns, len(row_ids))
    return rows


def _write_parquet(path: Path, tables: Iterable[pa.Table], text_column: str) -> None:
    import pyarrow.parquet as pq

    writer: pq.ParquetWriter | None = None
    try:
        for group in _groups(tables, text_column):
            if writer is None:
                plain = group.schema.remove_metadata()
                texts = [name for name in plain.names if name not in {"vector", text_column}]
                writer = pq.ParquetWriter(path, plain, compression="zstd", use_dictionary=texts)
            writer.write_table(group.cast(plain), row_group_size=group.num_rows or None)
    finally:
        if writer is not None:
            writer.close()


def _groups(tables: Iterable[pa.Table], text_column: str) -> Iterator[pa.Table]:
    """Join small tables to row groups, cut by what is in them alone: the same rows give the same file."""
    import pyarrow as pa
    import pyarrow.compute as pc

    held: list[pa.Table] = []
    characters = 0
    for table in tables:
        held.append(table)
        characters += pc.sum(pc.utf8_length(table[text_column])).as_py() or 0
        if characters >= _GROUP_CHARS or sum(part.num_rows for part in held) >= _GROUP_ROWS:
            yield pa.concat_tables(held).combine_chunks()
            held, characters = [], 0
    if held:
        yield pa.concat_tables(held).combine_chunks()


def _describe(path: Path, rows: int | None) -> ExportedFile:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return ExportedFile(path.name, path.stat().st_size, sha256, rows)
