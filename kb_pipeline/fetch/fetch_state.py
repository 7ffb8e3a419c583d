"""The `pages` table: the fetch state of every key, and how a new fetch changes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kb_pipeline.model import document_id

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_PROOF_OF_ABSENCE = ("not_found", "robots", "excluded", "out_of_scope", "noindex", "erased")
"""Reasons that end a document's life; every other outcome keeps the last good bytes."""
_MOVED = (301, 308)
"""A permanent redirect moves a document; a temporary one (a login page, say) proves nothing."""
_STORED = ("sha256", "segment", "position", "url", "content_type", "fetched_at", "body_run_id", "rendered")
"""What says where the bytes are and how they came."""
_HINTS = ("etag", "last_modified", "lastmod")
"""What the server and the sitemap say to save the next refresh a download; a failed try leaves them alone."""


def pages_schema() -> pa.Schema:
    """One row a key: the outcome of its newest try and where its last good bytes are.

    `consent` is what the page says of its use, `failures` counts the refreshes in a row in which asking for it failed,
    `tried_at` is the last of them, `changes` counts how often its bytes changed since `first_at`.
    """
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("page_id", pa.string(), nullable=False),
            pa.field("source", pa.string(), nullable=False),
            pa.field("key", pa.string(), nullable=False),
            ("outcome", pa.string()),
            ("reason", pa.string()),
            ("message", pa.string()),
            ("status", pa.int16()),
            ("redirect_to", pa.string()),
            ("etag", pa.string()),
            ("last_modified", pa.string()),
            ("depth", pa.int32()),
            ("sha256", pa.string()),
            ("segment", pa.string()),
            ("position", pa.int64()),
            ("url", pa.string()),
            ("content_type", pa.string()),
            ("fetched_at", pa.timestamp("us", tz="UTC")),
            ("body_run_id", pa.string()),
            ("lastmod", pa.string()),
            ("consent", pa.string()),
            ("rendered", pa.bool_()),
            ("shell", pa.bool_()),
            ("failures", pa.int32()),
            ("tried_at", pa.timestamp("us", tz="UTC")),
            ("changes", pa.int32()),
            ("first_at", pa.timestamp("us", tz="UTC")),
        ]
    )


def merge_outcomes(
    old: pl.DataFrame, new: pl.DataFrame, source: str, run_id: str, *, keep_lastmod: bool = False
) -> pl.DataFrame:
    """The rows of `pages` that a fetch changes.

    Args:
        old: the source's rows of the table.
        new: the fetch's outcomes, one row a key, with `segment` and `position` of each.
        source: the source's name.
        run_id: the Dagster run that fetched.
        keep_lastmod: whether a new lastmod alone is worth a write. Some sites stamp every page anew each time, so
            only for who skips pages by it.

    Returns:
        Rows in the table's schema, only those that differ from `old`: an unchanged site writes nothing.
    """
    import polars as pl

    fetched = pl.col("outcome") == "fetched"
    gone = pl.col("reason").is_in(_PROOF_OF_ABSENCE).fill_null(value=False) | (
        (pl.col("outcome") == "redirected") & pl.col("status").is_in(_MOVED)
    )
    # What a redirect says of itself is nothing about the bytes that are kept.
    keeps_validators = pl.col("outcome").is_in(["failed", "rejected", "redirected"])
    kept = (*_STORED, "status", *_HINTS, "consent", "shell", "failures", "tried_at", "changes", "first_at")
    before = {name: pl.col(f"{name}_old") for name in kept}
    new = new.with_columns(body_run_id=pl.lit(run_id))
    joined = new.join(old.select("key", pl.col(kept).name.suffix("_old")), on="key", how="left")
    stored = [
        pl.when(fetched).then(pl.col(name)).when(gone).then(None).otherwise(before[name]).alias(name)
        for name in _STORED
    ]
    validators = [
        pl.when(keeps_validators).then(before[name]).otherwise(pl.coalesce(name, before[name])).alias(name)
        for name in _HINTS
    ]
    # The 304 of an unchanged page says nothing of how its bytes came; nor does a page that was not asked for.
    says_nothing = (pl.col("outcome") == "unchanged") | (pl.col("attempts") == 0)
    status = pl.when(says_nothing).then(before["status"]).otherwise(pl.col("status"))
    consents = fetched | pl.col("outcome").eq("unchanged") | (pl.col("reason") == "noindex").fill_null(value=False)
    merged = joined.with_columns(
        *stored, *validators, *_history(before, fetched=fetched, gone=gone), status=status, source=pl.lit(source),
        shell=pl.when(gone).then(None).otherwise(pl.coalesce("shell", before["shell"])),
        consent=pl.when(consents).then("consent").when(gone).then(None).otherwise(before["consent"]),
    )  # fmt: skip
    changed = _differing(merged, old, ["depth"] if keep_lastmod else ["depth", "lastmod"])
    ids = [document_id(source, key) for key in changed["key"]]
    return changed.with_columns(page_id=pl.Series(ids, dtype=pl.String)).select(pages_schema().names)


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
