"""Finds the rows of a version's index that a filter lets through, from what its tables say of each document."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from kb_pipeline.errors import UsageError
from kb_pipeline.index.filters import Comparison, Compound
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.store.stage_tables import kept_documents

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["text", "texts", "time"]
ATTRIBUTES: Mapping[str, Kind] = {
    "document_id": "text",
    "key": "text",
    "url": "text",
    "canonical_url": "text",
    "source": "text",
    "title": "text",
    "headings": "texts",
    "language": "text",
    "media_type": "text",
    "fetched_at": "time",
    "first_seen_at": "time",
    "published": "time",
    "modified": "time",
}
"""What every document can be filtered by; beside it there is `metadata.NAME`, what its page or row says of itself.

`headings` are those above a chunk. `fetched_at` is when the bytes came that the document was made from: it changes with
them. `first_seen_at` is when its key first had bytes, `published` and `modified` what the page itself says.
"""
_METADATA = "metadata."
_OF_PAGES = {"url": "url", "media_type": "content_type", "first_seen_at": "first_at"}
_TO_NAME = 30
"""Names of metadata that an error lists."""
_ORDERED: Mapping[str, Callable[[Any, Any], pl.Expr]] = {
    "gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le,
}  # fmt: skip


def rows_matching(version: VersionReader, chosen: Comparison | Compound) -> NDArray[np.int64]:
    """Return the row ids of the chunks in the index whose documents satisfy a filter, in no order.

    Raises:
        UsageError: an attribute that there is not, or a value that it cannot be compared with.
        DamagedStore: a table of the version cannot be read.
    """
    keys = {each.key for each in _comparisons(chosen)}
    metadata = {key.removeprefix(_METADATA) for key in keys if key.startswith(_METADATA)}
    if unknown := sorted(key for key in keys if key not in ATTRIBUTES and not key.startswith(_METADATA)):
        there_are = ", ".join([*ATTRIBUTES, f"{_METADATA}NAME"])
        raise UsageError(f"documents have no attribute {unknown[0]!r} to filter by; there are: {there_are}")
    condition = _condition(chosen)
    documents = _documents(version, keys, sorted(metadata))
    if "headings" not in keys:
        documents = documents.filter(condition)
    columns = ["document_id", *(["headings"] if "headings" in keys else [])]
    rows = version.table("index").read_columns(columns, row_ids=True).join(documents, on="document_id")
    return (rows.filter(condition) if "headings" in keys else rows)["_rowid"].cast(pl.Int64).to_numpy()


def _comparisons(chosen: Comparison | Compound) -> Iterator[Comparison]:
    if isinstance(chosen, Comparison):
        yield chosen
    else:
        for each in chosen.filters:
            yield from _comparisons(each)


def _documents(version: VersionReader, keys: set[str], metadata: Sequence[str]) -> pl.DataFrame:
    """Return the attributes of every document of the version, those that are asked for."""
    table = version.table("documents")
    own = [key for key in sorted(keys) if key in ATTRIBUTES and key not in (*_OF_PAGES, "headings", "document_id")]
    columns = ["document_id", *own, *(["metadata"] if metadata else [])]
    there = [name for name in columns if name in table.schema.names]  # a version of an earlier release lacks some
    frame = table.read_columns(there, kept_documents(table.schema.names))
    frame = frame.with_columns(pl.lit(None, pl.String).alias(name) for name in columns if name not in there)
    if of_pages := {key: _OF_PAGES[key] for key in sorted(keys) if key in _OF_PAGES}:
        pages = version.table("pages").read_columns(["page_id", *of_pages.values()])
        pages = pages.rename({column: key for key, column in of_pages.items()} | {"page_id": "document_id"})
        frame = frame.join(pages, on="document_id", how="left")
    frame = frame.with_columns(*_times(frame), *_media_type(frame))
    return _with_metadata(version, frame, metadata) if metadata else frame


def _times(frame: pl.DataFrame) -> list[pl.Series]:
    """Return the columns of times that pages wrote themselves, as moments; null for what is no ISO 8601."""
    written = [name for name in frame.columns if ATTRIBUTES.get(name) == "time" and frame.schema[name] == pl.String]
    return [pl.Series(name, [_moment(each) for each in frame[name]], pl.Datetime("us", "UTC")) for name in written]


def _moment(written: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(written or "")
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _media_type(frame: pl.DataFrame) -> list[pl.Expr]:
    if "media_type" not in frame.columns:
        return []
    return [pl.col("media_type").str.split(";").list.first().str.strip_chars().str.to_lowercase()]


def _with_metadata(version: VersionReader, frame: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Add a column `metadata.NAME` of lists of texts for each name.

    Raises:
        UsageError: no document has metadata of a name.
    """
    said = [json.loads(each) if each else {} for each in frame["metadata"]]
    known = {name for each in said for name in each}
    if missing := sorted(set(names) - known):
        there_are = ", ".join(sorted(known)[:_TO_NAME]) or "none"
        raise UsageError(
            f"no document of {version.key} version {version.number} has metadata {missing[0]!r}; there are: {there_are}"
        )
    return frame.drop("metadata").with_columns(
        pl.Series(f"{_METADATA}{name}", [_texts(each.get(name)) for each in said], pl.List(pl.String)) for name in names
    )


def _texts(value: object) -> list[str]:
    if value is None:
        return []
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]


def _condition(chosen: Comparison | Compound) -> pl.Expr:
    """Return the filter as an expression that is true or false for every row, never null."""
    if isinstance(chosen, Comparison):
        return _comparison(chosen)
    inner = [_condition(each) for each in chosen.filters]
    if chosen.type == "and":
        return pl.all_horizontal(inner)
    return pl.any_horizontal(inner) if chosen.type == "or" else ~pl.any_horizontal(inner)


def _comparison(chosen: Comparison) -> pl.Expr:
    kind, column = ATTRIBUTES.get(chosen.key, "texts"), pl.col(chosen.key)
    if chosen.type in ("ne", "nin"):
        return ~_comparison(chosen.model_copy(update={"type": "eq" if chosen.type == "ne" else "in"}))
    if kind == "texts":  # several values: one of them must do
        found = column.list.eval(_holds(chosen, pl.element(), "text", chosen.key.startswith(_METADATA))).list.any()
    else:
        found = _holds(chosen, column, kind, False)
    found = found.fill_null(False)
    return ~found if chosen.type == "exists" and chosen.value is False else found


def _holds(chosen: Comparison, column: pl.Expr, kind: Kind, is_untyped: bool) -> pl.Expr:
    """Return whether the value of a column satisfies the comparison; null where it has none."""
    if chosen.type == "exists":
        return column.is_not_null() & (column != "") if kind == "text" else column.is_not_null()
    values = chosen.value if isinstance(chosen.value, list) else [chosen.value]
    if chosen.type in ("eq", "in"):
        return pl.any_horizontal([pl.lit(False), *(_equals(chosen, column, each, kind, is_untyped) for each in values)])
    (value,) = values
    if chosen.type in _ORDERED:
        return _is_ordered(chosen, column, value, kind, is_untyped)
    if kind == "time" or not isinstance(value, str):
        raise _mismatch(chosen, "a text" if kind == "text" else "compared by eq, ne, gt, gte, lt, lte, in and nin")
    if chosen.type == "contains":
        return column.str.contains(value, literal=True)
    return column.str.starts_with(value) if chosen.type == "starts_with" else column.str.ends_with(value)


def _equals(chosen: Comparison, column: pl.Expr, value: object, kind: Kind, is_untyped: bool) -> pl.Expr:
    if kind == "time":
        first, after = _moments(chosen, value)
        return (column == first) if after is None else (column >= first) & (column < after)
    compared, literal = _compared(chosen, column, value, is_untyped)
    return compared == literal


def _is_ordered(chosen: Comparison, column: pl.Expr, value: object, kind: Kind, is_untyped: bool) -> pl.Expr:
    if kind == "time":
        first, after = _moments(chosen, value)
        if after is not None and chosen.type in ("gt", "lte"):  # after the day, and until its end
            return column >= after if chosen.type == "gt" else column < after
        return _ORDERED[chosen.type](column, first)
    return _ORDERED[chosen.type](*_compared(chosen, column, value, is_untyped))


def _compared(chosen: Comparison, column: pl.Expr, value: object, is_untyped: bool) -> tuple[pl.Expr, pl.Expr]:
    """Return both sides: metadata are texts, which are compared with a number as numbers."""
    if isinstance(value, str):
        return column, pl.lit(value)
    if not is_untyped:
        raise _mismatch(chosen, "a text")
    if isinstance(value, bool):
        return column.str.to_lowercase(), pl.lit(str(value).lower())
    return column.cast(pl.Float64, strict=False), pl.lit(float(value))  # type: ignore[arg-type]


def _moments(chosen: Comparison, value: object) -> tuple[pl.Expr, pl.Expr | None]:
    """Return a moment; for a date alone, when its day (UTC) begins and when it has ended."""
    try:
        if isinstance(value, str):
            if (moment := _moment(value)) is not None:
                is_day = len(value) <= len("2026-11-25")
                return _literal(moment), _literal(moment + timedelta(days=1)) if is_day else None
        elif isinstance(value, int | float) and not isinstance(value, bool):
            return _literal(datetime.fromtimestamp(value, UTC)), None
    except (ValueError, OverflowError, OSError):
        pass
    raise _mismatch(chosen, "a time: ISO 8601, as in 2026-11-25 or 2026-11-25T10:00:00Z, or seconds since 1970")


def _literal(moment: datetime) -> pl.Expr:
    return pl.lit(moment, pl.Datetime("us", "UTC"))


def _mismatch(chosen: Comparison, allowed: str) -> UsageError:
    return UsageError(f"filter {chosen.type} {chosen.key}: {chosen.value!r:.80} cannot be; it is {allowed}")
