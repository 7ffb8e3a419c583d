"""The columns of `pages` that only web sources fill and read, and how a new fetch changes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kb_pipeline.fetch.web.reasons import ENDED_BY_FILE, MOVED, REFUSALS

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_MOST_HOPS = 20
_HINTS = ("etag", "last_modified", "lastmod")
"""What the server and the sitemap say to save the next refresh a download; a failed try leaves them alone."""


class WebColumns:
    """Validators, redirects and what a page says of itself."""

    names: tuple[str, ...] = (
        "status", "redirect_to", "etag", "last_modified", "depth", "lastmod", "consent", "rendered", "shell",
    )  # fmt: skip
    known: tuple[str, ...] = (
        "status", "redirect_to", "depth", "etag", "last_modified", "lastmod", "consent", "rendered", "shell",
    )  # fmt: skip
    order: tuple[str, ...] = ("depth",)

    def __init__(self, *, keep_lastmod: bool = False) -> None:
        # Some sites stamp every page anew each time, so it is written only for who skips pages by it.
        self.unwritten: tuple[str, ...] = ("depth",) if keep_lastmod else ("depth", "lastmod")

    def fields(self) -> Sequence[pa.Field]:
        """Return the columns with their types; `consent` is what the page says of its use."""
        import pyarrow as pa

        types = {"status": pa.int16(), "depth": pa.int32(), "rendered": pa.bool_(), "shell": pa.bool_()}
        return [pa.field(name, types.get(name, pa.string())) for name in self.names]

    def settled(self, new: pl.DataFrame, old: pl.DataFrame) -> pl.DataFrame:
        """Return the outcomes; pages that had bytes and moved to what gave none have failed: their bytes stay."""
        import polars as pl

        moved = (pl.col("outcome") == "redirected") & pl.col("status").is_in(sorted(MOVED))
        rows = new.filter(moved).join(old.filter(pl.col("sha256").is_not_null()), on="key", how="semi")
        if rows.is_empty():
            return new
        gave = set(new.filter(pl.col("outcome").is_in(["fetched", "unchanged"]))["key"])
        hops = dict(new.filter(pl.col("outcome") == "redirected").select("key", "redirect_to").iter_rows())
        lost = [key for key in rows["key"] if _end_of(key, hops) not in gave]
        failed = pl.col("key").is_in(lost)
        why = pl.concat_str(pl.lit("it moved to "), pl.col("redirect_to"), pl.lit(", which gave no page"))
        return new.with_columns(
            outcome=pl.when(failed).then(pl.lit("failed")).otherwise("outcome"),
            reason=pl.when(failed).then(pl.lit("moved_to_nothing")).otherwise("reason"),
            message=pl.when(failed).then(why).otherwise("message"),
        )

    def gone(self) -> pl.Expr:
        """Return whether the page has moved for good, or the KB file as edited leaves it out."""
        import polars as pl

        moved = (pl.col("outcome") == "redirected") & pl.col("status").is_in(sorted(MOVED))
        return moved | pl.col("reason").is_in(ENDED_BY_FILE).fill_null(value=False)

    def refused(self) -> pl.Expr:
        """Return whether the server redirects, or answers with what is no page to keep."""
        import polars as pl

        return (pl.col("outcome") == "redirected") | pl.col("reason").is_in(REFUSALS).fill_null(value=False)

    def merged(self, *, fetched: pl.Expr, gone: pl.Expr) -> Sequence[pl.Expr]:
        """Return what each column is after a fetch."""
        import polars as pl

        before = {name: pl.col(f"{name}_old") for name in self.names}
        unchanged = pl.col("outcome") == "unchanged"
        # What a redirect says of itself is nothing about the bytes that are kept.
        keeps_hints = pl.col("outcome").is_in(["failed", "rejected", "redirected"])
        hints = [
            pl.when(keeps_hints).then(before[name]).otherwise(pl.coalesce(name, before[name])).alias(name)
            for name in _HINTS
        ]
        # The 304 of an unchanged page says nothing of how its bytes came; nor does a page that was not asked for.
        says_nothing = unchanged | (pl.col("attempts") == 0)
        consents = fetched | unchanged | (pl.col("reason") == "noindex").fill_null(value=False)
        return [
            *hints,
            pl.when(says_nothing).then(before["status"]).otherwise(pl.col("status")).alias("status"),
            pl.when(gone).then(None).otherwise(pl.coalesce("shell", before["shell"])).alias("shell"),
            _with_bytes("rendered", fetched, gone, otherwise=before["rendered"]),
            _with_bytes("consent", consents, gone, otherwise=before["consent"]),
        ]

    def as_known(self) -> Sequence[pl.Expr]:
        """Return the lastmod without those from before a try that failed: they are no reason to skip the next one."""
        import polars as pl

        return [pl.when(pl.col("outcome") == "fetched").then("lastmod").alias("lastmod")]


def _end_of(key: str, hops: Mapping[str, str]) -> str:
    """Return where a chain of redirects ends."""
    for _ in range(_MOST_HOPS):
        if key not in hops:
            break
        key = hops[key]
    return key


def _with_bytes(name: str, new: pl.Expr, gone: pl.Expr, *, otherwise: pl.Expr) -> pl.Expr:
    import polars as pl

    return pl.when(new).then(pl.col(name)).when(gone).then(None).otherwise(otherwise).alias(name)
