"""Finds in the tables of a KB what became of every key: a document, another name of one, or left out for a reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from kb_pipeline.account import Account, Category, ReasonCount, SourceAccount
from kb_pipeline.clean.views import REASONS as VIEWS
from kb_pipeline.clean.views import message_of
from kb_pipeline.fetch.revisit import pause_end
from kb_pipeline.model import JsonObject, Record
from kb_pipeline.operations.left_out_reasons import NOT_CLEANED, UNDECIDED, cause_of
from kb_pipeline.store.table import LanceTable

if TYPE_CHECKING:
    import polars as pl

_PAGE = ("page_id", "source", "outcome", "reason", "sha256")
_DOCUMENT = ("document_id", "outcome", "reason", "duplicate_of", "left_out")
_CUTS = frozenset({"too_many_links", "sitemap_too_large", "sitemap_too_deep"})
"""Problems of a crawl after which a page or sitemap may name more than was read of it."""


@dataclass(frozen=True, slots=True)
class LeftOutKey(Record):
    """One key that has no document of its own, as `kb documents --left-out` lists it."""

    source: str
    key: str
    stage: str
    """`fetch` or `clean`: where it was decided."""
    reason: str
    category: Category
    message: str
    """What is known of the reason in this case."""
    remedy: str | None
    """What would help; None where it is somebody's will."""
    since: datetime | None
    """When it was first left out at this stage, as far as it is known."""
    asked_at: datetime | None
    """When it was last asked for and failed or was refused; None where nobody asked, or it is not known."""
    next_at: datetime | None
    """When it is asked for again at the earliest; None for the next refresh, or where our own rules decide."""


class Chronicle(Protocol):
    """Tells what is remembered of keys besides the tables."""

    def since(self, stage: str, source: str, key: str) -> datetime | None:
        """Return when a key was first left out at a stage."""

    def refused(self, source: str, key: str) -> tuple[datetime, int] | None:
        """Return when a server last refused to give a key, and how often in a row it did."""


class NoChronicle:
    """For tables of a version: what is remembered is of today."""

    def since(self, stage: str, source: str, key: str) -> datetime | None:
        """Return nothing."""
        del stage, source, key
        return None

    def refused(self, source: str, key: str) -> tuple[datetime, int] | None:
        """Return nothing."""
        del source, key
        return None


def take_account(pages: LanceTable, documents: LanceTable | None, fetched: JsonObject) -> Account:
    """Return the account of the keys in these tables.

    Args:
        pages: the fetch state of every key.
        documents: what cleaning made of them; None where it made nothing yet.
        fetched: the report of the fetch that brought them, as JSON: what it could not see.
    """
    fates = _fates(_read(pages, _PAGE), _read(documents, _DOCUMENT))
    known = dict(pages.read_columns(["source"])["source"].value_counts().iter_rows())
    by_source: dict[str, list[tuple[str, str, str, int]]] = {source: [] for source in sorted(known)}
    for source, fate, stage, why, keys in fates.group_by("source", "fate", "stage", "why").len().iter_rows():
        by_source[source].append((fate, stage, why, keys))
    return Account(
        tuple(_source_account(source, known[source], counts) for source, counts in by_source.items()),
        int(fetched.get("not_recorded", 0)),
        sum(problem["reason"] in _CUTS for problem in fetched.get("problems", [])),
    )


def ended_documents(pages: LanceTable, documents: LanceTable, before: LanceTable) -> dict[str, int]:
    """Return how many documents are none any more, by the reason for which they are left out now.

    Args:
        pages: the fetch state of every key, now.
        documents: what cleaning made of them.
        before: the documents of an earlier version.
    """
    import polars as pl

    if before.version == documents.version:
        return {}
    were = _read(before, _DOCUMENT).filter(
        pl.col("outcome") == "document", pl.col("duplicate_of").is_null(), pl.col("left_out").is_null()
    )
    fates = _fates(_read(pages, _PAGE), _read(documents, _DOCUMENT)).filter(pl.col("fate") == "left_out")
    gone = fates.join(were, left_on="page_id", right_on="document_id", how="semi")
    return dict(gone["why"].value_counts(sort=True).iter_rows())


def list_left_out(
    pages: LanceTable,
    documents: LanceTable | None,
    chronicle: Chronicle = NoChronicle(),  # noqa: B008 - has no state
    reason: str | None = None,
    source: str | None = None,
) -> Iterator[LeftOutKey]:
    """Yield every key of these tables that has no document, by source, reason and key.

    Args:
        pages: the fetch state of every key.
        documents: what cleaning made of them; None where it made nothing yet.
        chronicle: tells since when and until when.
        reason: only those with this reason code.
        source: only those of this source.
    """
    import polars as pl

    frame = _fates(
        _read(pages, (*_PAGE, "key", "message", "failures", "tried_at")),
        _read(documents, (*_DOCUMENT, "message", "view_of")),
    ).filter(pl.col("fate") == "left_out")
    for column, wanted in (("why", reason), ("source", source)):
        frame = frame if wanted is None else frame.filter(pl.col(column) == wanted)
    keys = pages.read_columns(["page_id", "key"]).rename({"page_id": "view_of", "key": "view_key"})
    frame = frame.join(keys, on="view_of", how="left")
    said = pl.when(pl.col("stage") == "clean").then("message_document").otherwise("message")
    listed = frame.with_columns(said=said.fill_null("")).sort("source", "why", "key")
    for row in listed.iter_rows(named=True):
        yield _left_out_key(row, chronicle)


def _left_out_key(row: Mapping[str, Any], chronicle: Chronicle) -> LeftOutKey:
    stage, why, source, key = str(row["stage"]), str(row["why"]), str(row["source"]), str(row["key"])
    view_key = row["view_key"] if isinstance(row["view_key"], str) else None
    cause = cause_of(stage, why)
    asked = (row["tried_at"], row["failures"] or 1) if row["tried_at"] else chronicle.refused(source, key)
    return LeftOutKey(
        source=source,
        key=key,
        stage=stage,
        reason=why,
        category=cause.category,
        message=message_of(why, view_key) if why in VIEWS else str(row["said"]),
        remedy=cause.remedy,
        since=chronicle.since(stage, source, key),
        asked_at=asked[0].astimezone(UTC) if asked else None,
        next_at=pause_end(asked[1], asked[0]) if asked else None,
    )


def _source_account(source: str, known: int, counts: Sequence[tuple[str, str, str, int]]) -> SourceAccount:
    sums = {fate: keys for fate, _, _, keys in counts if fate != "left_out"}
    reasons = [
        ReasonCount(stage, why, cause_of(stage, why).category, keys)
        for fate, stage, why, keys in counts
        if fate == "left_out"
    ]
    return SourceAccount(
        source,
        known,
        sums.get("document", 0),
        sums.get("alias", 0),
        sums.get("duplicate", 0),
        tuple(sorted(reasons, key=lambda each: (-each.keys, each.reason, each.stage))),
    )


def _read(table: LanceTable | None, columns: Sequence[str]) -> pl.DataFrame:
    """Read columns; those that a version of an earlier release does not have are null."""
    import polars as pl

    if table is None:
        return pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
    there = [name for name in columns if name in table.schema.names]
    return table.read_columns(there).with_columns(
        pl.lit(None, pl.String).alias(name) for name in columns if name not in there
    )


def _fates(pages: pl.DataFrame, documents: pl.DataFrame) -> pl.DataFrame:
    """Add to each page its `fate` (document, alias, duplicate, left_out), and of what is left out `stage` and `why`."""
    import polars as pl

    joined = pages.join(
        documents.rename({name: f"{name}_document" for name in documents.columns if name in pages.columns}),
        left_on="page_id",
        right_on="document_id",
        how="left",
    )
    cleaned = pl.col("sha256").is_not_null()
    is_document = cleaned & (pl.col("outcome_document") == "document").fill_null(value=False)
    return joined.with_columns(
        fate=pl.when(is_document & pl.col("left_out").is_not_null())
        .then(pl.lit("left_out"))
        .when(is_document & pl.col("duplicate_of").is_not_null())
        .then(pl.lit("duplicate"))
        .when(is_document)
        .then(pl.lit("document"))
        .when(~cleaned & (pl.col("outcome") == "redirected").fill_null(value=False))
        .then(pl.lit("alias"))
        .otherwise(pl.lit("left_out")),
        stage=pl.when(cleaned).then(pl.lit("clean")).otherwise(pl.lit("fetch")),
        why=pl.when(cleaned)
        .then(pl.coalesce("left_out", "reason_document", pl.lit(NOT_CLEANED)))
        .otherwise(pl.coalesce("reason", pl.lit(UNDECIDED))),
    )
