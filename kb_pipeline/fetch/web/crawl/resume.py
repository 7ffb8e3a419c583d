"""Reads what an interrupted crawl left in the journal, so that nothing it has is requested again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kb_pipeline.fetch.web.crawl.frontier import CrawlRequest
from kb_pipeline.fetch.web.crawl.journal import Row, read_outcomes, read_rows
from kb_pipeline.fetch.web.reasons import is_transient


class PreviousCrawl:
    """The rows of the journal as they were when the crawl was resumed."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._outcomes = read_outcomes(journal)
        self._starts: set[str] = set()

    def rows(self) -> Iterator[Row]:
        """Yield the last row of every key, without bodies."""
        for batch in self._outcomes.to_batches(max_chunksize=1024):
            for fields in batch.to_pylist():
                yield Row(**fields)

    def start_row(self, url: str) -> Row | None:
        """Return the row of a start URL, or None when it must be fetched (again)."""
        for row in self.rows():
            if row.key == url and not _is_retried(row):
                return row
        self._starts.add(url)
        return None

    def was_replaced(self, url: str) -> bool:
        """Whether this crawl gives the key a new row, so its old one no longer counts."""
        return url in self._starts or url in self._retried

    @property
    def _retried(self) -> dict[str, int]:
        if not hasattr(self, "_retried_keys"):
            self._retried_keys = {row.key: row.depth for row in self.rows() if _is_retried(row)}
        return self._retried_keys

    def retries(self) -> Iterator[CrawlRequest]:
        """Yield a request for every key to be tried again."""
        for key, depth in self._retried.items():
            if key not in self._starts:
                yield CrawlRequest(key, depth)

    def fetched_pages(self) -> Iterator[Row]:
        """Yield the pages that the interrupted crawl kept, one body in memory at a time, to find their links again."""
        if self._outcomes.num_rows:
            for fields in read_rows(self._journal, self._outcomes):
                if fields["outcome"] == "fetched":
                    yield Row(**fields)


def _is_retried(row: Row) -> bool:
    return row.outcome == "failed" and row.reason is not None and is_transient(row.reason)
