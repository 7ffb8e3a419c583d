"""The stage `fetch`: brings the `pages` table and the raw segments up to what the sources give today."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from kb_pipeline.errors import DamagedStore, SourceFailed
from kb_pipeline.failpoints import failpoint
from kb_pipeline.fetch.fetch_state import merge_outcomes, pages_schema
from kb_pipeline.fetch.journal_state import Checks, FetchJournal, write_known
from kb_pipeline.fetch.revisit import RevisitPolicy, describe_wait
from kb_pipeline.fetch.source import FetchJob, Listing, PageAccount, ReadBodies, Source, SourceProblem, Unlimited
from kb_pipeline.host_scheduler import HostScheduler
from kb_pipeline.model import ReportProgress, StageReport
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.raw_segments import RawBody, read_bodies
from kb_pipeline.store.stage_tables import PAGES
from kb_pipeline.store.table import LanceTable

if TYPE_CHECKING:
    import polars as pl

HostSchedulerOf = Callable[[str], HostScheduler]
"""What paces the fetch of a source, by its name."""
_FAILURE_COLUMNS = ["source", "key", "outcome", "reason", "message", "failures", "tried_at"]
_EMPTY_LISTING = "it names no document at all; what is stored of it stays until it names one, or leaves the KB file"


def refresh_pages(
    store: KbStore,
    sources: Sequence[Source],
    run_id: str,
    progress: ReportProgress,
    hosts_of: HostSchedulerOf,
    policy: RevisitPolicy = RevisitPolicy(),  # noqa: B008 - frozen
    account: PageAccount = Unlimited(),  # noqa: B008 - has no state
) -> StageReport:
    """Fetch every source and merge what came into `pages`; an interrupted fetch goes on where it was.

    The account is told what a fetch used before its journal goes; what an interrupted one used, see `unfinished`.

    Raises:
        SourceFailed: no source gave anything; the table then keeps what it had.
    """
    with sources[0].warm_up(knows_documents=store.has_table(PAGES)):
        return _Refresh(store, run_id, progress, hosts_of, policy, account).of(sources)


class _Refresh:
    """One run over all sources of a KB."""

    def __init__(
        self,
        store: KbStore,
        run_id: str,
        progress: ReportProgress,
        hosts_of: HostSchedulerOf,
        policy: RevisitPolicy,
        account: PageAccount,
    ) -> None:
        self._store, self._run_id, self._progress = store, run_id, progress
        self._hosts_of, self._policy, self._account = hosts_of, policy, account
        self._pages = store.tables.open_or_create(PAGES, pages_schema())
        self._report = StageReport("fetch")

    def of(self, sources: Sequence[Source]) -> StageReport:
        """Fetch them one after the other."""
        started, report = time.monotonic(), self._report
        report.deleted = _drop_other_sources(self._pages, [source.name for source in sources])
        why_nothing = [(source.name, why) for source in sources if (why := self._fetch(source)) is not None]
        report.seconds = time.monotonic() - started
        if len(why_nothing) == len(sources):
            raise SourceFailed(*why_nothing[0])
        return report

    def _fetch(self, source: Source) -> str | None:
        """Fetch one source; return why it gave nothing, if it did not."""
        paths, name = self._store.paths, source.name
        journal, checks = FetchJournal(paths, source, self._run_id), Checks(paths.checks(name))
        known = write_known(self._pages, source, journal.known_path, checks, self._policy)
        job = FetchJob(
            known, journal.path, paths.site_notes(name), self._progress, self._account, self._hosts_of(name),
            _bodies_of(self._store, self._pages, name),
        )  # fmt: skip
        try:
            listing = source.fetch(job)
        finally:
            self._account.count(journal.fetch_id, journal.used())
        failpoint("fetch.counted")
        outcomes = journal.outcomes()
        listing = _checked(listing, name, is_empty=outcomes.is_empty(), knows_documents=known.path is not None)
        merged = _merge(self._pages, outcomes, source, listing, self._run_id)
        _count(self._report, name, merged.outcomes, listing)
        self._report.deleted += merged.lost
        for reason, keys in merged.came_back.items():
            back = self._report.extra.setdefault("came_back", {})
            back[reason] = back.get(reason, 0) + keys
        checks.note(merged.outcomes, source.columns.refused(), pages_too=self._policy.max_age_s is not None)
        journal.adopt(outcomes)
        return (
            None
            if outcomes["outcome"].is_in(["fetched", "unchanged"]).any()
            else _why_nothing(outcomes, listing, source.columns.order)
        )


def _checked(listing: Listing, source: str, *, is_empty: bool, knows_documents: bool) -> Listing:
    """Return the listing, but partial where it says that everything is gone: so does a disk that is not mounted."""
    if not (listing.complete and is_empty and knows_documents):
        return listing
    problem = SourceProblem(source, "failed", "empty_listing", _EMPTY_LISTING)
    return replace(listing, complete=False, problems=(*listing.problems, problem))


def failed_pages(store: KbStore) -> Iterator[dict[str, Any]]:
    """Yield the rows of `pages` whose last attempt was rejected or failed, with the time of the next attempt."""
    if not store.tables.exists(PAGES):
        return
    pages = store.tables.open(PAGES)
    columns = [name for name in _FAILURE_COLUMNS if name in pages.schema.names]
    for row in pages.read_columns(columns, "outcome IN ('rejected', 'failed')").iter_rows(named=True):
        row = dict.fromkeys(_FAILURE_COLUMNS) | row
        told = describe_wait(row) if row["outcome"] == "failed" else ""
        yield row | {"message": "; ".join(part for part in (row["message"], told) if part)}


@dataclass(frozen=True, slots=True)
class _Merged:
    """What a fetch did to the table."""

    outcomes: pl.DataFrame
    """One row a key, as the outcomes of all keys together settled them."""
    lost: int
    """How many documents lost their bytes."""
    came_back: Mapping[str, int]
    """Keys that had no bytes and have some now, by the reason why they had none."""


def _merge(pages: LanceTable, outcomes: pl.DataFrame, source: Source, listing: Listing, run_id: str) -> _Merged:
    """Write the rows that changed."""
    import polars as pl

    old = pages.read_columns(pages_schema().names).filter(pl.col("source") == source.name)
    outcomes = source.columns.settled(outcomes, old)
    changed = merge_outcomes(old, outcomes, source.name, run_id, source.columns)
    if not changed.is_empty():
        pages.upsert(changed.to_arrow().cast(pages_schema()))
    lost = changed.filter(pl.col("sha256").is_null()).join(
        old.filter(pl.col("sha256").is_not_null()), on="key", how="semi"
    )
    unlisted = old.join(outcomes, on="key", how="anti").filter(
        pl.lit(listing.complete) | (pl.lit(listing.names_all) & pl.col("sha256").is_null())
    )
    if not unlisted.is_empty():
        pages.delete("page_id", unlisted["page_id"].to_list())
    return _Merged(outcomes, lost.height + unlisted["sha256"].count(), _came_back(old, changed))


def _came_back(old: pl.DataFrame, changed: pl.DataFrame) -> dict[str, int]:
    import polars as pl

    without = old.filter(pl.col("sha256").is_null()).select("key", why=pl.coalesce("reason", "outcome"))
    back = changed.filter(pl.col("sha256").is_not_null()).join(without, on="key")
    return dict(back.group_by("why").agg(pl.len()).sort("why").iter_rows())


def _bodies_of(store: KbStore, pages: LanceTable, source: str) -> ReadBodies:
    def read(keys: Collection[str]) -> Iterator[RawBody]:
        import polars as pl

        rows = pages.read_columns(["source", "key", "segment", "position"], "segment IS NOT NULL")
        wanted = rows.filter((pl.col("source") == source) & pl.col("key").is_in(list(keys))).sort("segment")
        for name, group in wanted.group_by("segment", maintain_order=True):
            # Damaged bytes are fetched again, and their links read then.
            with contextlib.suppress(DamagedStore):
                yield from read_bodies(store.paths.raw, {str(name[0]): group["position"].to_list()})

    return read


def _drop_other_sources(pages: LanceTable, sources: Sequence[str]) -> int:
    """Delete the pages of sources that the KB file no longer has; return how many had bytes."""
    import polars as pl

    others = pages.read_columns(["source", "sha256"]).filter(~pl.col("source").is_in(list(sources)))
    if not others.is_empty():
        pages.delete("source", others["source"].unique().to_list())
    return others["sha256"].count()


def _count(report: StageReport, source: str, outcomes: pl.DataFrame, listing: Listing) -> None:
    import polars as pl

    for name, figure in listing.figures.items():
        report.extra[name] = report.extra.get(name, 0) + figure
    if listing.problems:
        report.extra.setdefault("problems", []).extend({"source": source, **asdict(p)} for p in listing.problems)
    for name, rows in listing.details.items():
        report.extra.setdefault(name, []).extend(rows)
    for outcome, reason, keys in outcomes.group_by("outcome", "reason").agg(pl.len()).iter_rows():
        report.entered += keys
        if outcome == "failed":
            report.failed[reason] += keys
        elif outcome == "rejected":
            report.rejected[reason] += keys
        elif outcome == "redirected":
            report.rejected["redirected"] += keys  # an alias: its target is counted for itself
        else:
            report.passed += keys
            report.unchanged += keys if outcome == "unchanged" else 0


def _why_nothing(outcomes: pl.DataFrame, listing: Listing, order: Sequence[str]) -> str:
    import polars as pl

    if listing.problems and listing.problems[0].outcome == "failed" and outcomes.is_empty():
        return f"gave nothing; {_told(asdict(listing.problems[0]))}"
    bad = outcomes.filter(pl.col("outcome").is_in(["failed", "rejected"]))
    if bad.is_empty():
        return "gave no page at all"
    first = (bad.sort(*order) if order else bad).row(0, named=True)
    return f"gave no page at all ({bad.height} tried); {_told(first)}"


def _told(row: dict[str, Any]) -> str:
    return f"{row['key']}: {row['reason']}{': ' + row['message'] if row['message'] else ''}"
