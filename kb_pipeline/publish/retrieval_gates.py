"""Judges a candidate version: whether it is whole, and whether it answers as well as the live one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from kb_pipeline.errors import DamagedStore, UnknownModel
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.model import EmbeddingModel
from kb_pipeline.publish.integrity_gates import ChunkText, Contents, Gate, read_back, structural_gates, vectors_match
from kb_pipeline.publish.probe_queries import RECALL_DEPTH, Score, Search, known_items, score_items
from kb_pipeline.spec.kb_file import GoldenQuery, Publish
from kb_pipeline.store.manifest import Manifest
from kb_pipeline.store.stage_tables import ROLES, kept_documents
from kb_pipeline.store.table import LanceTable

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

_NAMED = 5
"""Keys or questions that a message names."""
_EVIDENCE = 2
"""One page that was rewritten moves the mean of a few by more than any limit: it takes two."""
_ROUNDING = 1e-9


def check_version(
    version: VersionReader,
    model: EmbeddingModel,
    live: VersionReader | None,
    rolled_back: Sequence[VersionReader],
    rules: Publish,
    search: Search,
    search_live: Search,
    embed: Callable[[Sequence[ChunkText]], NDArray[np.float32]],
) -> Iterator[Gate]:
    """Run every gate over the pinned tables of a candidate.

    Args:
        version: the candidate.
        model: the KB file's.
        live: the live version, None for a first build.
        rolled_back: the versions that a rollback undid: newer than the live one, once live themselves.
        rules: the KB file's section `publish`.
        search: searches the candidate.
        search_live: searches the live version, with the model that it was made with; may raise UnknownModel.
        embed: gives the vectors of chunks anew, from their title, headings and text.
    """
    opened = {role: version.table(role) for role in ROLES}
    contents = read_back(opened)
    yield from structural_gates(opened, contents, version.manifest, model)
    if contents.unreadable:
        yield from _not_asked()
        return
    kept = contents.kept.select("document_id", "key", "document_hash")
    yield vectors_match(opened["index"], embed)
    judged = (
        _not_shrunk(contents, opened["chunks"], live, rules.max_shrink),
        _retrieval_kept(version, kept, live, rules.max_drop, search, search_live),
        _golden_queries(rules, search, search_live if live else None),
    )
    yield from _explained(judged, version, live)
    yield _nothing_resurrected(kept, live, rolled_back)


def _explained(gates: Sequence[Gate], version: VersionReader, live: VersionReader | None) -> Iterator[Gate]:
    """Yield the gates, those that failed with the reason where it is cleaning that changed and not the site."""
    why = "" if live is None or all(gate.passed for gate in gates) else _cleaned_anew(version, live)
    for gate in gates:
        yield gate if gate.passed or not why else replace(gate, message=f"{gate.message}; {why}")


def _cleaned_anew(version: VersionReader, live: VersionReader) -> str:
    """Return how many pages are cleaned in another way though their bytes are the same; empty for few or none."""
    changes = _changes_of_cleaning(version.manifest, live.manifest)
    if not changes:
        return ""
    columns = ["document_id", "raw_sha256", "document_hash"]
    before, now = (each.table("documents").read_columns(columns, "outcome = 'document'") for each in (live, version))
    same = before.join(now, on=["document_id", "raw_sha256"], suffix="_now")
    other = same.filter(same["document_hash"] != same["document_hash_now"]).height
    if not other:
        return ""
    return (
        f"it is cleaning that changed, not the site: {same.height} of {before.height} pages have the bytes of before, "
        f"{other} of them give another text by this release ({', '.join(changes)}); compare some with 'kb diff' and "
        "'kb page', then approve the version"
    )


def _changes_of_cleaning(now: Manifest, before: Manifest) -> list[str]:
    versions = {f"{name} {number}" for name, number in now.libraries.items()} | {f"cleaning {now.code.get('clean')}"}
    earlier = {f"{name} {number}" for name, number in before.libraries.items()}
    return sorted(versions - earlier - {f"cleaning {before.code.get('clean')}"})


def _not_asked() -> Iterator[Gate]:
    for name in ("vectors_match", "not_shrunk", "retrieval_kept", "golden_queries", "nothing_resurrected"):
        yield Gate(name, passed=False, message="not asked: the version cannot be read")


def _documents(version: VersionReader) -> pl.DataFrame:
    table = version.table("documents")
    return table.read_columns(["document_id", "key", "document_hash"], kept_documents(table.schema.names))


def _not_shrunk(contents: Contents, chunks: LanceTable, live: VersionReader | None, max_shrink: float) -> Gate:
    """Check what vanished; a document that is there with the same text, as a copy or a view of another, did not."""
    if live is None:
        measured = {"vanished_share": 0.0, "vanished_text_share": 0.0}
        return Gate("not_shrunk", passed=True, message="first version", measured=measured)
    before = _documents(live)
    gone = before.join(contents.kept, on="document_id", how="anti")
    vanished = gone.join(contents.frames["documents"], on=["document_id", "document_hash"], how="anti").height
    share = vanished / before.height if before.height else 0.0
    text_share = _vanished_text(live.table("chunks"), chunks)
    message = f"{vanished} of {before.height} documents vanished ({share:.0%}); allowed are {max_shrink:.0%}"
    if text_share > max_shrink >= share:
        message = f"{text_share:.0%} of the text of documents that stay vanished; allowed are {max_shrink:.0%}"
    measured = {"vanished_share": share, "vanished_text_share": text_share}
    return Gate("not_shrunk", max(share, text_share) <= max_shrink, message, holds=True, measured=measured)


def _vanished_text(live: LanceTable, candidate: LanceTable) -> float:
    """Return the share of the live chunks' characters that remaining documents have lost.

    Document by document: what others gained makes up for nothing, and those that vanished are counted already. The one
    that lost most is left out, since one long page that its owner cut is an edit.
    """
    import polars as pl

    both = _covered(live).join(_covered(candidate), on="document_id", suffix="_now")
    both = both.with_columns(lost=(pl.col("covered") - pl.col("covered_now")).clip(0))
    others = both.sort("lost", "covered", descending=True).slice(1)
    total = int(others["covered"].sum())
    return int(others["lost"].sum()) / total if total else 0.0


def _covered(chunks: LanceTable) -> pl.DataFrame:
    """Count the characters of each document that its chunks cover: the same however it was chunked, overlaps or not."""
    import polars as pl

    spans = chunks.read_columns(["document_id", "start", "end"]).sort("document_id", "start")
    reached = pl.col("end").cum_max().shift(1).over("document_id").fill_null(0)
    fresh = (pl.col("end") - pl.max_horizontal("start", reached)).clip(0)
    return spans.select("document_id", covered=fresh.cast(pl.Int64)).group_by("document_id").sum()


def _retrieval_kept(
    version: VersionReader,
    kept: pl.DataFrame,
    live: VersionReader | None,
    max_drop: float,
    search: Search,
    search_live: Search,
) -> Gate:
    items = known_items(live or version, set(kept["document_id"]))
    if not items:
        return Gate("retrieval_kept", passed=True, message="no document of the live version is left to ask for")
    mine = score_items(items, search)
    theirs = _live_score(lambda: score_items(items, search_live)) if live else None
    worse = mine.worse_than(theirs) if theirs else []
    fell = theirs is not None and len(worse) >= _EVIDENCE and _drop(mine, theirs) > max_drop + _ROUNDING
    message = f"{len(items)} documents asked for: {_compared(mine, theirs, live, max_drop)}"
    message += _named("found later or not at all", [items[n].key for n in worse]) if fell else ""
    return Gate("retrieval_kept", not fell, message, holds=True, measured=_measured("known_item", mine, theirs))


def _golden_queries(rules: Publish, search: Search, search_live: Search | None) -> Gate:
    queries = rules.queries
    if not queries:
        return Gate("golden_queries", passed=True, message="the KB file names no golden queries")
    mine = _golden_score(queries, search)
    theirs = _live_score(lambda: _golden_score(queries, search_live)) if search_live else None
    kept = theirs is None or not _golden_fell(mine, theirs, rules.max_drop)
    passed = kept and mine.recall >= rules.min_recall
    message = f"{_compared(mine, theirs, search_live, rules.max_drop)}; wanted recall {rules.min_recall:.2f}"
    message += _named("missed", [queries[n].query for n in mine.missed()])
    worse = set(mine.worse_than(theirs)) - set(mine.missed()) if theirs and not kept else set()
    message += _named("found later", [queries[n].query for n in sorted(worse)])
    return Gate("golden_queries", passed, message, holds=True, measured=_measured("golden", mine, theirs))


def _golden_score(queries: Sequence[GoldenQuery], search: Search) -> Score:
    return Score(tuple(_golden_rank(golden, search) for golden in queries))


def _golden_rank(golden: GoldenQuery, search: Search) -> int | None:
    for hit in search(golden.query):
        if golden.key == hit.key or (golden.text and golden.text in hit.text):
            return hit.rank
    return None


def _golden_fell(mine: Score, theirs: Score, max_drop: float) -> bool:
    """Return whether golden queries got worse: any loss of recall counts, a lower rank only in several queries."""
    if theirs.recall - mine.recall > max_drop + _ROUNDING:
        return True
    return len(mine.worse_than(theirs)) >= _EVIDENCE and theirs.mrr - mine.mrr > max_drop + _ROUNDING


def _live_score(ask: Callable[[], Score]) -> Score | None:
    """None where the live version's model is not here any more, so that it cannot be asked."""
    try:
        return ask()
    except UnknownModel:
        return None


def _drop(mine: Score, theirs: Score) -> float:
    return max(theirs.recall - mine.recall, theirs.mrr - mine.mrr)


def _compared(mine: Score, theirs: Score | None, live: object, max_drop: float) -> str:
    if theirs is None:
        why = "the live version's model is not here any more, so it was not asked" if live else "first version"
        return f"recall@{RECALL_DEPTH} {mine.recall:.2f}, MRR {mine.mrr:.2f} ({why})"
    return (
        f"recall@{RECALL_DEPTH} {mine.recall:.2f} (live {theirs.recall:.2f}), MRR {mine.mrr:.2f} "
        f"(live {theirs.mrr:.2f}); allowed drop {max_drop:.2f}"
    )


def _named(what: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"; {what}: {'; '.join(names[:_NAMED])}{more}"


def _measured(kind: str, mine: Score, theirs: Score | None) -> dict[str, float]:
    """Return the scores that the version records."""
    scores = {f"{kind}_recall_at_{RECALL_DEPTH}": mine.recall, f"{kind}_mrr": mine.mrr}
    if theirs is not None:
        scores |= {f"live_{kind}_recall_at_{RECALL_DEPTH}": theirs.recall, f"live_{kind}_mrr": theirs.mrr}
    return {name: round(value, 4) for name, value in scores.items()}


def _nothing_resurrected(kept: pl.DataFrame, live: VersionReader | None, rolled_back: Sequence[VersionReader]) -> Gate:
    """Check that no refresh publishes again what a rollback undid, which the sources still contain."""
    if live is None or not rolled_back:
        return Gate("nothing_resurrected", passed=True, message="no version was rolled back")
    before = _documents(live)
    again = {version.number: _brought_back(version, before, kept) for version in rolled_back}
    keys = set[str]().union(*again.values())
    numbers = [str(number) for number, found in again.items() if found]
    message = f"nothing of version {', '.join(str(number) for number in again)} comes back"
    if keys:
        named = "; ".join(sorted(keys)[:_NAMED]) + ("; ..." if len(keys) > _NAMED else "")
        told = f"{len(keys)} documents of version {', '.join(numbers)}, which was rolled back"
        message = f"would bring back {told}: {named}"
    return Gate("nothing_resurrected", not keys, message, holds=True, measured={"brought_back": len(keys)})


def _brought_back(version: VersionReader, before: pl.DataFrame, kept: pl.DataFrame) -> set[str]:
    """Keys of the documents that the version added, changed or removed against the live one, as the candidate does."""
    try:
        theirs = _documents(version)
    except DamagedStore:
        return set()  # its retention ended: nothing is left to compare with
    state = ["document_id", "document_hash"]
    written = theirs.join(before, on=state, how="anti").join(kept, on=state, how="semi")
    removed = before.join(theirs, on="document_id", how="anti").join(kept, on="document_id", how="anti")
    return {*written["key"], *removed["key"]}
