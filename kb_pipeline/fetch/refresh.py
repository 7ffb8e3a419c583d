"""The stage `fetch`: brings the `pages` table and the raw segments up to what the sources give today."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kb_pipeline.errors import SourceFailed
from kb_pipeline.failpoints import failpoint
from kb_pipeline.fetch.fetch_state import merge_outcomes, pages_schema
from kb_pipeline.fetch.revisit import RevisitPolicy, describe_wait, plan
from kb_pipeline.fetch.web.crawl.journal import pages_used, segments
from kb_pipeline.fetch.web.crawl.known_pages import COLUMNS as KNOWN_COLUMNS
from kb_pipeline.fetch.web.crawl.page_quota import PageAccount, Unlimited
from kb_pipeline.fetch.web.crawl.process import CrawlProcess, crawl
from kb_pipeline.fetch.web.rules import CrawlFiles, CrawlRules, CrawlSummary
from kb_pipeline.host_scheduler import HostScheduler
from kb_pipeline.model import PagesUsed, ReportProgress, StageReport
from kb_pipeline.store.durable_files import atomic_write, write_durably
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.paths import KbPaths
from kb_pipeline.store.raw_segments import commit_segments
from kb_pipeline.store.stage_tables import PAGES
from kb_pipeline.store.table import LanceTable

if TYPE_CHECKING:
    import polars as pl

_OUTCOME_COLUMNS = [
    "key", "url", "outcome", "reason", "message", "status", "redirect_to", "etag", "last_modified", "content_type",
    "sha256", "fetched_at", "depth", "lastmod", "attempts", "consent", "rendered", "shell",
]  # fmt: skip
TurnsOf = Callable[[str], HostScheduler]
"""The turns at hosts of the crawl of a source, by its name."""
_KNOWN_COLUMNS = [
    "source", "key", "depth", "etag", "last_modified", "sha256", "lastmod", "outcome", "reason", "message", "consent",
    "rendered", "shell", "failures", "tried_at", "changes", "first_at",
]  # fmt: skip
_FAILURE_COLUMNS = ["source", "key", "outcome", "reason", "message", "failures", "tried_at"]
_RESUME_WITHIN_S = 24 * 3600
"""What an interrupted fetch has is taken up again if it is younger than a day."""


def refresh_pages(
    store: KbStore,
    sources: Sequence[CrawlRules],
    run_id: str,
    progress: ReportProgress,
    turns: TurnsOf,
    recheck: RevisitPolicy = RevisitPolicy(),  # noqa: B008 - frozen
    account: PageAccount = Unlimited(),  # noqa: B008 - has no state
) -> StageReport:
    """Fetch every source and merge what came into `pages`; an interrupted fetch goes on where it was.

    The account is told what a fetch used before its journal goes; what an interrupted one used, see `unfinished`.

    Raises:
        SourceFailed: no source gave anything; the table then keeps what it had.
    """
    with CrawlProcess(knows_pages=store.has_table(PAGES)) as crawler:
        return _Refresh(store, run_id, progress, turns, recheck, account).of(sources, crawler)


class _Refresh:
    """One run over all sources of a KB."""

    def __init__(
        self,
        store: KbStore,
        run_id: str,
        progress: ReportProgress,
        turns: TurnsOf,
        recheck: RevisitPolicy,
        account: PageAccount,
    ) -> None:
        self._account = account
        self._store, self._run_id, self._progress = store, run_id, progress
        self._turns, self._recheck = turns, recheck
        self._pages = store.tables.open_or_create(PAGES, pages_schema())
        self._report = StageReport("fetch")

    def of(self, sources: Sequence[CrawlRules], first: CrawlProcess) -> StageReport:
        started, report = time.monotonic(), self._report
        report.deleted = _drop_other_sources(self._pages, [rules.source for rules in sources])
        empty = []
        for number, rules in enumerate(sources):
            outcomes = self._fetch(rules, crawl if number else first.run)
            if not outcomes["outcome"].is_in(["fetched", "unchanged"]).any():
                empty.append((rules.source, _why_nothing(outcomes)))
        report.seconds = time.monotonic() - started
        if len(empty) == len(sources):
            raise SourceFailed(*empty[0])
        return report

    def _fetch(self, rules: CrawlRules, run_crawl: Callable[..., CrawlSummary]) -> pl.DataFrame:
        paths, source = self._store.paths, rules.source
        journal, checks = _Journal(paths, rules, self._run_id), Checks(paths.checks(source))
        known = _write_known(self._pages, source, journal.note, checks, self._recheck)
        files = CrawlFiles(journal.path, paths.site_notes(source), known)
        try:
            summary = run_crawl(rules, files, self._progress, self._turns(source), self._account)
        finally:
            self._account.count(journal.fetch_id, pages_used(journal.path))
        failpoint("fetch.counted")
        outcomes = journal.outcomes()
        _count(self._report, source, outcomes, summary)
        self._report.deleted += _merge(self._pages, outcomes, rules, self._run_id)
        if self._recheck.max_age_s is not None or summary.reasons.get("quota"):
            checks.note(outcomes)
        journal.adopt(outcomes)
        return outcomes


def unfinished(paths: KbPaths) -> Iterator[tuple[str, dict[str, PagesUsed]]]:
    """The fetches that were interrupted, each with what it has used; some of them nobody will take up again."""
    for note in sorted(paths.journals.glob("*.json")):
        try:
            state = json.loads(note.read_bytes())
            fetch_id = str(state["fetch_id"])
        except (ValueError, KeyError):
            continue
        if "adopted" not in state:  # else it has been counted, and is half gone
            yield fetch_id, pages_used(note.with_suffix(""))


def failed_pages(store: KbStore) -> Iterator[dict[str, Any]]:
    """The rows of `pages` whose newest try was rejected or failed, and when they are asked for again."""
    if not store.tables.exists(PAGES):
        return
    pages = store.tables.open(PAGES)
    columns = [name for name in _FAILURE_COLUMNS if name in pages.schema.names]
    for row in pages.read_columns(columns, "outcome IN ('rejected', 'failed')").iter_rows(named=True):
        row = dict.fromkeys(_FAILURE_COLUMNS) | row
        told = describe_wait(row) if row["outcome"] == "failed" else ""
        yield row | {"message": "; ".join(part for part in (row["message"], told) if part)}


class Checks:
    """When each page of a source was last asked for; a file of its own, so that asking alone changes no table."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> pl.DataFrame:
        """`key` and `checked_at` of every page that was asked for while it mattered."""
        import polars as pl

        if self._path.exists():
            return pl.read_parquet(self._path)
        return pl.DataFrame(schema=[("key", pl.String), ("checked_at", pl.Datetime("us", "UTC"))])

    def note(self, outcomes: pl.DataFrame) -> None:
        """Remember what a crawl asked for; keys that gave no page are forgotten."""
        import polars as pl

        # Those that a quota left out wait in the order in which they were last asked for.
        waits = (pl.col("reason") == "quota").fill_null(value=False)
        given = outcomes.filter(pl.col("outcome").is_in(["fetched", "unchanged"]) | waits)
        asked = given.filter(pl.col("attempts") > 0).select("key", checked_at="fetched_at")
        earlier = self.read().join(given.filter(pl.col("attempts") == 0), on="key", how="semi")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self._path, self._path.with_suffix(".tmp")) as file:
            pl.concat([asked, earlier]).write_parquet(file, compression="zstd")


class _Journal:
    """Where one source's fetch keeps what it has until the table knows it."""

    def __init__(self, paths: KbPaths, rules: CrawlRules, run_id: str) -> None:
        self.path, self._raw = paths.journal(rules.source), paths.raw
        self.note = self.path.with_suffix(".json")
        self.fetch_id = self._begin_or_resume(rules, run_id)

    def outcomes(self) -> pl.DataFrame:
        """The last row of every key without its body, and where that will lie among the raw segments."""
        import polars as pl

        frames = [
            pl.read_parquet(path, columns=_OUTCOME_COLUMNS)
            .with_row_index("position")
            .with_columns(pl.col("position").cast(pl.Int64), segment=pl.lit(f"{self.fetch_id}-{path.name}"))
            for path in segments(self.path)
        ]
        if not frames:
            raise SourceFailed(self.path.name, "the crawl kept no record")
        return pl.concat(frames).unique("key", keep="last", maintain_order=True)

    def adopt(self, outcomes: pl.DataFrame) -> None:
        """Move the segments with bodies among the raw ones.

        The table was written first: a crash before the note says so leaves the journal, and the next fetch comes here
        again. After that the fetch is over, and what comes next is another one: its segments must not take the names
        of those that have been moved already.
        """
        import polars as pl

        wanted = outcomes.filter(pl.col("outcome") == "fetched")["segment"].unique().to_list()
        if wanted:
            write_durably(self.note, json.dumps({"fetch_id": self.fetch_id, "adopted": wanted}).encode())
        else:
            self.note.unlink(missing_ok=True)
        self._adopt(self.fetch_id, wanted)

    def _adopt(self, fetch_id: str, wanted: Sequence[str]) -> None:
        commit_segments(self.path, self._raw, fetch_id, wanted)
        self.note.unlink(missing_ok=True)
        self.note.with_suffix(".known.parquet").unlink(missing_ok=True)

    def _begin_or_resume(self, rules: CrawlRules, run_id: str) -> str:
        """Keep the journal of an interrupted fetch by the same rules, else start an empty one; returns its id.

        A fetch that was over but for moving its segments is brought to its end first.
        """
        try:
            state = json.loads(self.note.read_bytes())
            is_fresh = time.time() - self.note.stat().st_mtime < _RESUME_WITHIN_S
            if "adopted" in state:
                self._adopt(str(state["fetch_id"]), state["adopted"])
            elif is_fresh and state["rules"] == rules.fingerprint():
                return str(state["fetch_id"])
        except (OSError, ValueError, KeyError):
            pass  # no interrupted fetch, or a torn note: begin anew
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)
        fetch_id = f"{rules.source}-{run_id[:8]}-{time.time_ns():x}"
        write_durably(self.note, json.dumps({"fetch_id": fetch_id, "rules": rules.fingerprint()}).encode())
        return fetch_id


def _write_known(pages: LanceTable, source: str, note: Path, checks: Checks, recheck: RevisitPolicy) -> Path | None:
    """Every key met so far, for the crawler to ask after those with stored bytes; None when there are none."""
    import polars as pl

    known = pages.require_unique(pages.read_columns(_KNOWN_COLUMNS).filter(pl.col("source") == source), "key")
    if known["sha256"].null_count() == known.height:
        return None
    path = note.with_suffix(".known.parquet")
    failed = pl.col("outcome") == "failed"
    planned = plan(known, checks.read(), recheck, datetime.now(UTC)).with_columns(
        # What the sitemap said before a try that failed is no reason to skip the next one.
        lastmod=pl.when(pl.col("outcome") == "fetched").then("lastmod"),
        reason=pl.when(failed).then("reason"),
        message=pl.when(failed).then("message"),
    )
    planned.select(KNOWN_COLUMNS).write_parquet(path, compression="lz4")
    return path


def _merge(pages: LanceTable, outcomes: pl.DataFrame, rules: CrawlRules, run_id: str) -> int:
    """Write the rows that changed; returns how many documents lost their bytes."""
    import polars as pl

    old = pages.read_columns(pages_schema().names).filter(pl.col("source") == rules.source)
    changed = merge_outcomes(old, outcomes, rules.source, run_id, keep_lastmod=rules.trust_lastmod)
    if changed.is_empty():
        return 0
    pages.upsert(changed.to_arrow().cast(pages_schema()))
    lost = changed.filter(pl.col("sha256").is_null()).join(
        old.filter(pl.col("sha256").is_not_null()), on="key", how="semi"
    )
    return lost.height


def _drop_other_sources(pages: LanceTable, sources: Sequence[str]) -> int:
    """A source taken out of the KB file takes its pages with it; returns how many had bytes."""
    import polars as pl

    others = pages.read_columns(["source", "sha256"]).filter(~pl.col("source").is_in(list(sources)))
    if not others.is_empty():
        pages.delete("source", others["source"].unique().to_list())
    return others["sha256"].count()


def _count(report: StageReport, source: str, outcomes: pl.DataFrame, summary: CrawlSummary) -> None:
    import polars as pl

    figures = {"requests": summary.requests, "body_bytes": summary.body_bytes, "out_of_scope": summary.out_of_scope}
    optional = {"not_asked": summary.not_asked, "rendered": summary.rendered, "not_recorded": summary.not_recorded}
    for name, figure in (figures | {name: figure for name, figure in optional.items() if figure}).items():
        report.extra[name] = report.extra.get(name, 0) + figure
    if summary.problems:
        report.extra.setdefault("problems", []).extend({"source": source, **asdict(p)} for p in summary.problems)
    report.extra.setdefault("hosts", []).extend(asdict(host) for host in summary.hosts)
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


def _why_nothing(outcomes: pl.DataFrame) -> str:
    import polars as pl

    bad = outcomes.filter(pl.col("outcome").is_in(["failed", "rejected"]))
    if bad.is_empty():
        return "gave no page at all"
    first = bad.sort("depth").row(0, named=True)
    return (
        f"gave no page at all ({bad.height} tried); {first['key']}: "
        f"{first['reason']}{': ' + first['message'] if first['message'] else ''}"
    )
