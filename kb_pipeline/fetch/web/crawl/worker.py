"""The crawl's child process: reads a job on stdin, reports progress on stdout, drains and flushes on SIGTERM.

It also sends its reports on hosts and its requests for pages to stdout and reads the replies from stdin, one line of
JSON each. Run as `python -m kb_pipeline.fetch.web.crawl.worker PARENT_PID known|new`: it imports what such a job needs
while the parent still prepares the job.

It is a process of its own because a reactor can run only once in a process, and because a page that crashes a parser
must not crash the run. It dies with its parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from kb_pipeline.fetch.web.politeness.host_throttle import CrawlStopped
from kb_pipeline.fetch.web.rules import CrawlFiles, CrawlRules
from kb_pipeline.host_scheduler import Permit, Report
from kb_pipeline.processes import collect_garbage_rarely, die_with_parent

if TYPE_CHECKING:
    from kb_pipeline.fetch.web.crawl.crawler import Crawler
    from kb_pipeline.fetch.web.crawl.statistics import Statistics

DRAIN_SECONDS = 15.0
_PROGRESS_SECONDS = 0.25
_MAX_REPLY_BYTES = 1 << 24
"""The longest line of permits; each host takes some hundred bytes."""


def main() -> int:
    """Run one job; return 0 when its summary was printed."""
    die_with_parent(signal.SIGTERM, int(sys.argv[1]))
    collect_garbage_rarely()
    _import_ahead(knows_pages=sys.argv[2] == "known")
    text = sys.stdin.readline()
    if not text:
        return 0  # the parent ended without sending a job
    job = json.loads(text)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_crawl(job))
    return 0


def _import_ahead(*, knows_pages: bool) -> None:
    import uvloop  # noqa: F401

    from kb_pipeline.fetch.web.crawl import crawler, journal, known_pages, statistics  # noqa: F401

    if knows_pages:
        from kb_pipeline.fetch.web.http import aiohttp_transport  # noqa: F401
    else:
        from kb_pipeline.fetch.web.http import scrapy_transport  # noqa: F401


async def _crawl(job: dict[str, Any]) -> None:
    from kb_pipeline.fetch.web.crawl.crawler import Crawler
    from kb_pipeline.fetch.web.crawl.journal import JournalWriter
    from kb_pipeline.fetch.web.crawl.known_pages import KnownPages
    from kb_pipeline.fetch.web.crawl.statistics import Statistics

    rules, files = CrawlRules.from_json(job["rules"]), CrawlFiles.from_json(job["files"])
    writer = JournalWriter(files.journal)
    statistics = Statistics(writer)
    pipe = await _ParentPipe.open()
    crawler = Crawler(rules, files, statistics, KnownPages(files.known), pipe, pipe.take_pages)
    ticker = asyncio.create_task(_tick(crawler, statistics, rules))
    _stop_on_signals(crawler)
    try:
        async with crawler.renderer or contextlib.nullcontext():
            finished = await _run_phases(crawler, rules, knows_pages=files.known is not None)
    finally:
        ticker.cancel()
        writer.close()
    engines = tuple(name for name in ("aiohttp", "scrapy") if name in sys.modules)
    client, hosts = crawler.client, crawler.throttles.figures()
    summary = statistics.summary(
        client.requests, client.body_bytes, finished=finished, names_all=crawler.names_all, engines=engines, hosts=hosts
    )
    _print({"summary": asdict(summary)})


async def _run_phases(crawler: Crawler, rules: CrawlRules, *, knows_pages: bool) -> bool:
    """Revalidate, then discover; import each HTTP library only when it is needed."""
    if knows_pages:
        from kb_pipeline.fetch.web.http import aiohttp_transport

        async with aiohttp_transport.transport(rules) as transport:
            await crawler.revalidate(transport)
    if crawler.has_discoveries or not knows_pages:
        from kb_pipeline.fetch.web.http import scrapy_transport

        await scrapy_transport.run(crawler.discover, rules)
    return crawler.finish()


def _stop_on_signals(crawler: Crawler) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        crawler.stop()
        loop.call_later(DRAIN_SECONDS, crawler.cancel)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


async def _tick(crawler: Crawler, statistics: Statistics, rules: CrawlRules) -> None:
    while True:
        await asyncio.sleep(_PROGRESS_SECONDS)
        done = statistics.kept
        _print({"done": done, "total": min(done + crawler.queued, rules.max_pages)})


class _ParentPipe:
    """Sends reports and requests to the parent process and reads its replies."""

    def __init__(self, replies: asyncio.StreamReader) -> None:
        self._replies, self._lock = replies, asyncio.Lock()

    @classmethod
    async def open(cls) -> _ParentPipe:
        """Read stdin asynchronously from here on."""
        replies = asyncio.StreamReader(limit=_MAX_REPLY_BYTES)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(replies), sys.stdin)
        return cls(replies)

    async def __call__(self, reports: Mapping[str, Report]) -> dict[str, Permit]:
        """Return a permit for every host reported on; raise CrawlStopped when the parent closed the pipe."""
        permits = await self._exchange({"hosts": {host: asdict(report) for host, report in reports.items()}})
        return {host: Permit(**fields) for host, fields in permits.items()}

    async def take_pages(self, pages: int) -> int | None:
        """Take pages from the account; return how many, None without a limit. Raise CrawlStopped as well."""
        taken: int | None = (await self._exchange({"pages": pages}))["pages"]
        return taken

    async def _exchange(self, message: dict[str, Any]) -> dict[str, Any]:
        async with self._lock:
            _print(message)
            line = await self._replies.readline()
        if not line:
            raise CrawlStopped
        reply: dict[str, Any] = json.loads(line)
        return reply


def _print(message: dict[str, Any]) -> None:
    # The parent may have closed the pipe; the journal still has to be flushed.
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
