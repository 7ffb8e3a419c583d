"""Counts the outcomes of URLs, in this crawl and in the one it resumes, and writes them to the journal."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Callable
from time import monotonic

from kb_pipeline.fetch.source import SourceProblem
from kb_pipeline.fetch.web.crawl.journal import JournalWriter, Row
from kb_pipeline.fetch.web.reasons import is_proven
from kb_pipeline.fetch.web.rules import CrawlSummary, HostFigures, OutsideHost
from kb_pipeline.urls import netloc_of

KEPT = frozenset({"fetched", "unchanged"})
_MAX_PROBLEMS = 1000
_MAX_HOSTS = 300
"""Siblings, and other hosts out of scope, that are counted each for itself."""
_TOLD_HOSTS = 10


class _OutsideLinks:
    """The distinct links that are out of scope, by host; hosts beyond a limit are counted together."""

    def __init__(self) -> None:
        self._urls: set[int] = set()
        self._siblings: Counter[str] = Counter()
        self._others: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._urls)

    def add(self, url: str, is_sibling: Callable[[str], bool]) -> None:
        """Count a URL if it was not counted before."""
        if hash(url) in self._urls:
            return
        self._urls.add(hash(url))
        host = netloc_of(url)
        counts = self._siblings if host in self._siblings or is_sibling(url) else self._others
        counts[host if host in counts or len(counts) < _MAX_HOSTS else ""] += 1

    def hosts(self) -> tuple[OutsideHost, ...]:
        """Return the hosts with the most URLs, siblings first."""
        siblings = [OutsideHost(host, urls, True) for host, urls in self._siblings.most_common(_TOLD_HOSTS)]
        others = [OutsideHost(host, urls, False) for host, urls in self._others.most_common(_TOLD_HOSTS)]
        return (*siblings, *others)[:_TOLD_HOSTS]


class Statistics:
    """The running totals of a crawl; each key that has a row counts once."""

    def __init__(self, writer: JournalWriter) -> None:
        self._writer = writer
        self._began = monotonic()
        self._outcomes: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._skipped = self._rendered = 0
        self._problems: dict[str, SourceProblem] = {}
        """By URL."""
        self._outside = _OutsideLinks()
        self._unrecorded: set[int] = set()

    @property
    def kept(self) -> int:
        """The number of pages fetched or unchanged."""
        return sum(self._outcomes[outcome] for outcome in KEPT)

    def record(self, row: Row) -> None:
        """Write a row and count it."""
        self._writer.append(row)
        self.count(row)

    def count(self, row: Row) -> None:
        """Count a row that is in the journal already."""
        self._outcomes[row.outcome] += 1
        if row.reason:
            self._reasons[row.reason] += 1
        self._skipped += row.outcome == "unchanged" and row.attempts == 0
        self._rendered += row.rendered

    def count_outside(self, url: str, is_sibling: Callable[[str], bool]) -> None:
        """Count a link that is out of scope, once a URL."""
        self._outside.add(url, is_sibling)

    def count_unrecorded(self, url: str) -> None:
        """Count a link in scope that gets no row, once a URL."""
        self._unrecorded.add(hash(url))

    def note_problem(self, url: str, reason: str, message: str) -> None:
        """Keep what an operator should know about a URL; only the first problem of each."""
        if len(self._problems) < _MAX_PROBLEMS:
            outcome = "rejected" if is_proven(reason) else "failed"
            self._problems.setdefault(url, SourceProblem(url, outcome, reason, message))

    @property
    def has_failed_problems(self) -> bool:
        """Whether something could not be read that may name pages: a sitemap, a feed."""
        return any(problem.outcome == "failed" for problem in self._problems.values())

    def summary(
        self,
        requests: int,
        body_bytes: int,
        *,
        finished: bool,
        engines: tuple[str, ...],
        hosts: tuple[HostFigures, ...] = (),
        names_all: bool = False,
    ) -> CrawlSummary:
        """Return the totals so far."""
        return CrawlSummary(
            outcomes=dict(self._outcomes),
            reasons=dict(self._reasons),
            out_of_scope=len(self._outside),
            outside_hosts=self._outside.hosts(),
            not_recorded=len(self._unrecorded),
            requests=requests,
            body_bytes=body_bytes,
            seconds=monotonic() - self._began,
            finished=finished,
            problems=tuple(self._problems.values()),
            peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            not_asked=self._skipped,
            names_all=names_all,
            engines=engines,
            rendered=self._rendered,
            hosts=hosts,
        )
