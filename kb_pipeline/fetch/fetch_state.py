"""The `pages` table: the fetch state of every key, and how a new fetch changes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kb_pipeline.fetch.registry import SOURCE_TYPES
from kb_pipeline.fetch.source import PROOF_OF_ABSENCE, OwnColumns
from kb_pipeline.model import document_id

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_STORED = ("sha256", "segment", "position", "url", "content_type", "fetched_at", "body_run_id")
"""What says where the bytes are and how they came."""
_HISTORY = ("failures", "tried_at", "changes", "first_at")


def pages_schema() -> pa.Schema:
    """Return the columns of `pages`: one row a key, the outcome of its newest try and where its last good bytes are.

    `state` is what its source wants to be told of it next time. `failures` counts the refreshes in a row in which
    asking for it failed, `tried_at` is the last of them; `changes` counts how often its bytes changed since `first_at`.
    A type of source may have columns of its own, which are null in the rows of others.
    """
    import pyarrow as pa

    own = [column for each in SOURCE_TYPES.values() for column in each.COLUMNS.fields()]
    return pa.schema(
        [
            pa.field("page_id", pa.string(), nullable=False),
            pa.field("source", pa.string(), nullable=False),
            pa.field("key", pa.string(), nullable=False),
            ("outcome", pa.string()),
            ("reason", pa.string()),
            ("message", pa.string()),
            ("sha256", pa.string()),
            ("segment", pa.string()),
            ("position", pa.int64()),
            ("url", pa.string()),
            ("content_type", pa.string()),
            ("fetched_at", pa.timestamp("us", tz="UTC")),
            ("body_run_id", pa.string()),
            ("failures", pa.int32()),
            ("tried_at", pa.timestamp("us", tz="UTC")),
            ("changes", pa.int32()),
            ("first_at", pa.timestamp("us", tz="UTC")),
            ("state", pa.string()),
            *own,
        ]
    )


def merge_outcomes(old: pl.DataFrame, new: pl.DataFrame, source: str, run_id: str, own: OwnColumns) -> pl.DataFrame:
    """Return the rows of `pages` that a fetch changes.

    Args:
        old: the source's rows of the table.
        new: the fetch's outcomes as they are settled, one row a key, with `segment` and `position` of each.
        source: the source's name.
        run_id: the Dagster run that fetched.
        own: the columns of the source's type.

    Returns:
        Rows in the table's schema, only those that differ from `old`: an unchanged source writes nothing.
    """
    import polars as pl

    fetched = pl.col("outcome") == "fetched"
    gone = pl.col("reason").is_in(PROOF_OF_ABSENCE).fill_null(value=False) | own.gone()
    kept = (*_STORED, *_HISTORY, "state", *own.names)
    before = {name: pl.col(f"{name}_old") for name in kept}
    new = _with_all_columns(new).with_columns(body_run_id=pl.lit(run_id))
    joined = new.join(old.select("key", pl.col(kept).name.suffix("_old")), on="key", how="left")
    stored = [
        pl.when(fetched).then(pl.col(name)).when(gone).then(None).otherwise(before[name]).alias(name)
        for name in _STORED
    ]
    merged = joined.with_columns(
        *stored, *_history(before, fetched=fetched, gone=gone), *own.merged(fetched=fetched, gone=gone),
        state=_state(before["state"], fetched=fetched, gone=gone), source=pl.lit(source),
    )  # fmt: skip
    changed = _differing(merged, old, own.unwritten)
    ids = [document_id(source, key) for key in changed["key"]]
    return changed.with_columns(page_id=pl.Series(ids, dtype=pl.String)).select(pages_schema().names)


def _with_all_columns(outcomes: pl.DataFrame) -> pl.DataFrame:
    """Add the columns of `pages` that a journal does not have, filled with nulls."""
    import polars as pl

    nothing = pl.DataFrame(pl.from_arrow(pages_schema().empty_table())).drop("page_id", "source", "body_run_id")
    return pl.concat([outcomes, nothing.drop(_HISTORY)], how="diagonal")


def _state(before: pl.Expr, *, fetched: pl.Expr, gone: pl.Expr) -> pl.Expr:
    """Return a key's state: that of the bytes that are kept, or what was learned of them since."""
    import polars as pl

    unchanged = pl.when(pl.col("outcome") == "unchanged").then(pl.coalesce("state", before)).otherwise(before)
    return pl.when(fetched).then(pl.col("state")).when(gone).then(None).otherwise(unchanged)


def _history(before: dict[str, pl.Expr], *, fetched: pl.Expr, gone: pl.Expr) -> list[pl.Expr]:
    """How often in a row it failed, how often it changed."""
    import polars as pl

    # A page that was not asked for has not failed once more.
    failed, asked = pl.col("outcome") == "failed", pl.col("attempts") > 0
    failures = before["failures"].fill_null(0) + asked.cast(pl.Int32)
    tried_at = pl.when(asked).then("fetched_at").otherwise(before["tried_at"])
    had = before["sha256"].is_not_null()
    changes = before["changes"].fill_null(0) + (had & (before["sha256"] != pl.col("sha256"))).cast(pl.Int32)
    first_at = pl.coalesce(before["first_at"], pl.when(had).then(before["fetched_at"]), "fetched_at")
    return [
        pl.when(failed).then(failures).otherwise(None).cast(pl.Int32).alias("failures"),
        pl.when(failed).then(tried_at).otherwise(None).alias("tried_at"),
        pl.when(fetched).then(changes).when(gone).then(None).otherwise(before["changes"]).alias("changes"),
        pl.when(fetched).then(first_at).when(gone).then(None).otherwise(before["first_at"]).alias("first_at"),
    ]


def _differing(rows: pl.DataFrame, old: pl.DataFrame, ignored: Sequence[str]) -> pl.DataFrame:
    # `unchanged` after `fetched` is no change of the row: the bytes and their place are the same.
    import polars as pl

    settled = pl.col("outcome").replace("unchanged", "fetched")
    columns = [name for name in pages_schema().names if name not in ("page_id", "source", *ignored)]
    return rows.with_columns(outcome=settled).join(old.select(columns), on=columns, how="anti", nulls_equal=True)
