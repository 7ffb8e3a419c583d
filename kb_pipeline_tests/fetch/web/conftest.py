"""Fixtures: a site on loopback and a crawl of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kb_pipeline.fetch.web.crawl.journal import read_outcomes, read_rows
from kb_pipeline.fetch.web.crawl.known_pages import COLUMNS
from kb_pipeline.fetch.web.crawl.process import crawl
from kb_pipeline.fetch.web.link_graph import LinksOfPage, add_rows
from kb_pipeline.fetch.web.link_graph import read_rows as read_links
from kb_pipeline.fetch.web.rules import CrawlFiles, CrawlLimits, CrawlRules, CrawlSummary
from kb_pipeline.host_scheduler import LocalHostScheduler
from kb_pipeline_tests.fetch.web.site import Site, running_site

LOOPBACK = ("127.0.0.0/8",)


def rules_for(*start_urls: str, **changes: Any) -> CrawlRules:
    """Rules that suit a test: no sitemap, no delay, quick retries."""
    given: dict[str, Any] = {
        "source": "site",
        "start_urls": start_urls,
        "sitemap": "off",
        "scope": "host",
        "include": (),
        "exclude": (),
        "max_pages": 1000,
        "max_depth": 20,
        "delay_s": 0.0,
        "user_agent": "kb-test/1.0 (+mailto:test@example.com)",
        "allowed_networks": LOOPBACK,
        "backoff_s": 0.05,
        "timeout_s": 5.0,
        "deadline_s": 10.0,
    }
    return CrawlRules(**{**given, **changes})


_TYPES = {
    "depth": pa.int32(), "rendered": pa.bool_(), "waits": pa.bool_(), "shell": pa.bool_(), "status": pa.int16(),
}  # fmt: skip
_KNOWN = pa.schema([(name, _TYPES.get(name, pa.string())) for name in COLUMNS])


def known_file(path: Path, *pages: dict[str, Any]) -> Path:
    """Write what an earlier refresh stored; each page has a key, and defaults for the other columns, and no links."""
    rows = [{"depth": 1, "sha256": "0" * 64, **page} for page in pages]
    pq.write_table(pa.Table.from_pylist(rows, _KNOWN), path)
    return path


def note_links(files: CrawlFiles) -> None:
    """Note that the known pages lead nowhere, but for those whose links are in the file."""
    if files.known is not None and files.known.read_bytes().startswith(b"PAR1"):  # a test may damage it
        has = set(read_links(files.links).column("key").to_pylist())
        pages = pq.read_table(files.known, columns=["key", "sha256"]).to_pylist()
        add_rows(files.links, (LinksOfPage(**page, links=()) for page in pages if page["key"] not in has))


def child_of(pid: int) -> int:
    """Return the crawl's child process; other tests may have left children for a while."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    (child,) = (
        int(c) for c in children if b"kb_pipeline.fetch.web.crawl.worker" in Path(f"/proc/{c}/cmdline").read_bytes()
    )
    return child


def files_at(journal: Path, known: Path | None = None) -> CrawlFiles:
    """Return the files of a crawl, with the notes on its sites beside the journal."""
    return CrawlFiles(journal, journal.with_name(f"{journal.name}-notes"), known)


class Crawled:
    """What a crawl left behind."""

    def __init__(self, journal: Path, summary: CrawlSummary) -> None:
        self.summary = summary
        self.rows = {row["key"]: row for row in read_rows(journal)}
        assert sorted(read_outcomes(journal).column("key").to_pylist()) == sorted(self.rows)
        if summary.finished:
            assert sum(summary.outcomes.values()) == len(self.rows), "one outcome for every URL"

    def outcome(self, url: str) -> str:
        """Return outcome and reason: `fetched`, or `rejected not_found` and the like."""
        row = self.rows[url]
        return f"{row['outcome']} {row['reason']}" if row["reason"] else row["outcome"]


class Crawler:
    """Crawls into one journal, and goes on with it until it is forgotten."""

    def __init__(self, folder: Path) -> None:
        self.journal = folder / "journal"
        self.notes = files_at(self.journal).notes
        self.progress: list[tuple[int, int | None]] = []

    def __call__(self, *start_urls: str, known: Path | None = None, **changes: Any) -> Crawled:
        rules = rules_for(*start_urls, **changes)

        def progress(done: int, total: int | None) -> None:
            self.progress.append((done, total))

        files = files_at(self.journal, known)
        note_links(files)
        summary = crawl(rules, files, progress, LocalHostScheduler())
        return Crawled(self.journal, summary)

    @staticmethod
    def limits(**changes: int) -> CrawlLimits:
        """Return the limits of a crawl, some of them changed."""
        return CrawlLimits(**changes)

    def forget(self) -> None:
        """Begin anew with the next crawl; what is remembered of the sites stays."""
        shutil.rmtree(self.journal)


@pytest.fixture
def site() -> Iterator[Site]:
    with running_site() as running:
        yield running


@pytest.fixture
def crawled(tmp_path: Path) -> Crawler:
    return Crawler(tmp_path)
