"""Keeps the file of links between a source's pages true: from the journal of a crawl, or from the bytes as stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kb_pipeline.fetch.source import ReadBodies
from kb_pipeline.fetch.web.crawl.journal import read_outcomes
from kb_pipeline.fetch.web.crawl.outcomes import leads_nowhere
from kb_pipeline.fetch.web.link_graph import LinksOfPage, add_rows, read_rows, rows_of, schema, write_rows
from kb_pipeline.fetch.web.politeness import usage_directives
from kb_pipeline.page_kind import is_html

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from kb_pipeline.store.raw_segments import RawBody


def read_missing_links(links: Path, known: Path, read_bodies: ReadBodies, max_links: int) -> int:
    """Add the links of stored pages that the file lacks, by parsing their bytes; return how many pages.

    They are missing in homes of earlier releases, and where the file was damaged or is behind the table.

    Args:
        links: the file.
        known: the Parquet file of known keys.
        read_bodies: yields the stored bytes of keys.
        max_links: the most links of one page.
    """
    missing = _pages_without_links(links, known)
    if missing:
        add_rows(links, (_links_of(body, missing[body.key], max_links) for body in read_bodies(missing)))
    return len(missing)


def _pages_without_links(links: Path, known: Path) -> dict[str, str | None]:
    """Return the directives of each page with bytes whose links are not in the file, or are those of other bytes.

    A page that redirects since its bytes came leads only where it redirects to.
    """
    import polars as pl

    pages = pl.read_parquet(known, columns=["key", "sha256", "consent"]).filter(pl.col("sha256").is_not_null())
    there = _frame(read_rows(links, ["key", "sha256", "is_redirect"]))
    lacking = pages.join(there, on=["key", "sha256"], how="anti")
    lacking = lacking.join(there.filter("is_redirect"), on="key", how="anti")
    return dict(lacking.select("key", "consent").iter_rows())


def _links_of(body: RawBody, consent: str | None, max_links: int) -> LinksOfPage:
    from kb_pipeline.fetch.web.parse.html_links import parse_page

    if not is_html(body.content_type, body.url, body.body) or usage_directives.forbids(consent, "nofollow"):
        return LinksOfPage(body.key, body.sha256, ())
    page = parse_page(body.body, body.content_type or "", body.url, max_links)
    return LinksOfPage(body.key, body.sha256, page.urls)


def store_links(links: Path, journal: Path) -> None:
    """Bring the file up to a finished crawl: rows of pages that were read are replaced, of those that ended removed."""
    import pyarrow as pa

    outcomes = read_outcomes(journal)
    read = pa.Table.from_pylist([_row(row) for row in _rows_with_links(outcomes)], schema=schema())
    stored = read_rows(links)
    kept = rows_of(_still_there(stored, outcomes), read.column("key"), are_wanted=False)
    if read.num_rows or kept.num_rows < stored.num_rows:
        write_rows(links, pa.concat_tables([kept.cast(schema()), read]))


def _rows_with_links(outcomes: pa.Table) -> Iterator[Mapping[str, Any]]:
    columns = ["key", "outcome", "sha256", "links", "redirect_to", "is_news", "attempts"]
    for batch in outcomes.select(columns).to_batches(max_chunksize=1024):
        for row in batch.to_pylist():
            is_redirect = row["outcome"] == "redirected" and row["redirect_to"] and row["attempts"]
            if is_redirect or row["links"] is not None:
                yield row


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    is_redirect = row["outcome"] == "redirected"
    return {
        "key": row["key"],
        "sha256": row["sha256"],
        "links": [row["redirect_to"], *(row["links"] or ())] if is_redirect else row["links"],
        "is_redirect": is_redirect,
        "is_news": row["is_news"],
    }


def _still_there(stored: pa.Table, outcomes: pa.Table) -> pa.Table:
    """Return the stored rows of keys that the crawl met and found still there."""
    import pyarrow as pa

    decided = zip(*(outcomes.column(name).to_pylist() for name in ("key", "outcome", "reason")), strict=True)
    keys = [key for key, outcome, reason in decided if not leads_nowhere(outcome, reason)]
    return rows_of(stored, pa.chunked_array([keys], pa.string()), are_wanted=True)


def _frame(table: pa.Table) -> pl.DataFrame:
    import polars as pl

    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame):
        raise TypeError("a table gave no frame")
    return frame
