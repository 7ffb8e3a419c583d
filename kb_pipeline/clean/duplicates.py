"""Finds documents that say what another one says: the same text, or nearly that of the one they call canonical."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kb_pipeline.clean.address import PAGINATION, SORTING, read_address, without_address
from kb_pipeline.clean.segments import HEADING, Segments
from kb_pipeline.clean.simhash import MAX_HAMMING_DISTANCE
from kb_pipeline.link_text import strip_link_targets
from kb_pipeline.model import digest

if TYPE_CHECKING:
    import polars as pl

_MOST_DECLARING = 3
"""Distinct texts elsewhere that may call one address canonical: more, and it is a fault of the site's template."""


def content_sha256(key: str, title: str, markdown: str) -> str:
    """Hash what a reader sees of a document, without the targets of links and without its own address.

    Where either was left out the title counts as well: downloads for two systems may differ in their targets only.
    """
    text = strip_link_targets(markdown)
    quoted = without_address(key, text)
    parts = [" ".join(quoted.split())]
    return digest("content", *parts, *([title] if quoted != markdown else []))


def rank(rows: pl.DataFrame) -> pl.DataFrame:
    """Sort documents so that of several with one text the first is to stay, whatever order they were fetched in.

    That is the one that declares itself canonical, else one that others declare so, else the plainest address: not of
    a form or a printed view, with the fewest parameters, then the shortest, then the first by key.
    """
    import polars as pl

    is_canonical = (pl.col("canonical_url") == pl.col("key")).fill_null(value=False)
    is_named = pl.col("key").is_in(rows["canonical_url"].drop_nulls().unique().implode())
    addresses = [read_address(key) for key in rows["key"]]
    plain = rows.with_columns(
        pl.Series("forms", [len(each.forms) for each in addresses], dtype=pl.Int32),
        pl.Series("variants", [len(each.names & (PAGINATION | SORTING)) for each in addresses], dtype=pl.Int32),
        pl.Series("parameters", [len(each.parameters) for each in addresses], dtype=pl.Int32),
    )
    return plain.sort(
        ~is_canonical,
        ~is_named,
        "forms",
        "parameters",
        "variants",
        pl.col("key").str.len_bytes(),
        "key",
    )


def find_duplicates(ranked: pl.DataFrame) -> pl.DataFrame:
    """Return `document_id` and `duplicate_of`, null for the documents that stand for themselves.

    A document whose canonical URL is another document's key is also a duplicate of that one, if their texts are nearly
    equal. The canonical URL alone is not enough: some sites declare their home page as canonical on every page.

    Args:
        ranked: document_id, source, key, title, canonical_url, content_sha256, document_hash, sketch and segments, as
            `rank` sorts.
    """
    import polars as pl

    # The same text is the same, whichever of its own addresses it quotes.
    alike = ranked.with_columns(content_sha256=pl.col("content_sha256").first().over("document_hash"))
    first = alike.with_columns(first=pl.col("document_id").first().over("content_sha256"))
    marked = first.join(_canonical_twins(first), on="document_id", how="left")
    other = pl.when(pl.col("first") != pl.col("document_id")).then("first")
    return marked.select("document_id", duplicate_of=pl.coalesce("twin", other))


def _canonical_twins(rows: pl.DataFrame) -> pl.DataFrame:
    """Return `document_id` and `twin`: the document that it declares canonical and whose text is nearly equal."""
    import polars as pl

    declaring = rows.filter(pl.col("canonical_url") != pl.col("key"))
    target = rows.filter(pl.col("canonical_url").is_null() | (pl.col("canonical_url") == pl.col("key")))
    pairs = declaring.join(target, left_on=["source", "canonical_url"], right_on=["source", "key"], suffix="_target")
    differing = (pl.col("sketch") ^ pl.col("sketch_target")).bitwise_count_ones()
    similar = pairs.filter(
        (differing <= MAX_HAMMING_DISTANCE) & (pl.col("content_sha256") != pl.col("content_sha256_target"))
    )
    similar = similar.filter([_is_twin(row) for row in similar.iter_rows(named=True)])
    elsewhere = pl.col("content_sha256").filter(~pl.col("is_view")).n_unique().over("source", "canonical_url")
    views = similar.with_columns(
        pl.Series("is_view", [_is_view(row) for row in similar.iter_rows(named=True)], pl.Boolean)
    )
    similar = views.filter(pl.col("is_view") | (elsewhere <= _MOST_DECLARING))
    # The first of several documents with the same text gets the canonical one for all of them.
    heads = similar.filter(pl.col("first") == pl.col("document_id")).select("first", twin="first_target")
    heads = heads.filter(~pl.col("twin").is_in(heads["first"].implode()))  # no chains: a twin has no twin itself
    return rows.join(heads, on="first").select("document_id", "twin")


def _is_twin(pair: dict[str, object]) -> bool:
    """Return whether title and headings are the same: two parts of one catalogue differ there, if little elsewhere."""
    headings, others = _headings(pair["segments"]), _headings(pair["segments_target"])
    return pair["title"] == pair["title_target"] and headings == others


def _headings(stored: object) -> list[int]:
    if not isinstance(stored, bytes):
        return []
    segments = Segments.from_bytes(stored)
    found: list[int] = segments.text[segments.kind == HEADING].tolist()
    return found


def _is_view(pair: dict[str, object]) -> bool:
    """Return whether the address is the canonical one with more parameters."""
    address, canonical = read_address(str(pair["key"])), read_address(str(pair["canonical_url"]))
    return address.stem == canonical.stem and canonical.parameters < address.parameters
