"""Crawls a web site in a child process, which owns the event loop and Scrapy's reactor."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from typing import IO, Any

from kb_pipeline.errors import ChildCrashed
from kb_pipeline.fetch.source import PageAccount, SourceProblem, Unlimited
from kb_pipeline.fetch.web.rules import CrawlFiles, CrawlRules, CrawlSummary, HostFigures, OutsideHost
from kb_pipeline.host_scheduler import HostScheduler, Report
from kb_pipeline.model import ReportProgress
from kb_pipeline.processes import SAFE_PYTHON

STOP_SECONDS = 20.0
_TAIL_BYTES = 4000
_UNLIMITED = Unlimited()


def crawl(
    rules: CrawlRules,
    files: CrawlFiles,
    progress: ReportProgress,
    hosts: HostScheduler,
    account: PageAccount = _UNLIMITED,
) -> CrawlSummary:
    """Crawl by the rules into the journal, and continue from what the journal already holds.

    An exception in the caller (a cancelled run) lets the child finish its requests in flight and flush, and is raised
    again.

    Args:
        rules: what to crawl, and how.
        files: where the crawl reads and writes.
        progress: called with the number of pages kept so far and the number expected.
        hosts: schedules the requests to each host.
        account: limits how many pages may be requested; the caller records afterwards what the journal used.

    Raises:
        ChildCrashed: the child died.
    """
    with CrawlProcess(knows_pages=files.known is not None) as crawler:
        return crawler.run(rules, files, progress, hosts, account)


class CrawlProcess:
    """The child process of one crawl, started before its job is known: it imports while the parent prepares the job."""

    def __init__(self, *, knows_pages: bool) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._child = _start(self._errors, knows_pages)

    def __enter__(self) -> CrawlProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._child.poll() is None:
            _stop(self._child)
        _close_pipes(self._child)
        self._errors.close()

    def run(
        self,
        rules: CrawlRules,
        files: CrawlFiles,
        progress: ReportProgress,
        hosts: HostScheduler,
        account: PageAccount = _UNLIMITED,
    ) -> CrawlSummary:
        """Crawl as `crawl` does; call it once."""
        files.journal.mkdir(parents=True, exist_ok=True)
        files.notes.mkdir(parents=True, exist_ok=True)
        _send(self._child, {"rules": rules.as_json(), "files": files.as_json()})
        try:
            summary = _listen(self._child, progress, hosts, account)
            returncode = self._child.wait()
        finally:
            hosts.close()
        if returncode != 0 or summary is None:
            raise ChildCrashed(f"the crawl of source {rules.source!r}", returncode, _tail(self._errors))
        return summary


def _start(errors: IO[bytes], knows_pages: bool) -> subprocess.Popen[str]:
    # In a session of its own: Ctrl-C in a terminal reaches only the caller, which then stops the child in order.
    return subprocess.Popen(
        [*SAFE_PYTHON, "-m", "kb_pipeline.fetch.web.crawl.worker", str(os.getpid()), "known" if knows_pages else "new"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        start_new_session=True,
    )


def _send(child: subprocess.Popen[str], message: Mapping[str, Any]) -> None:
    stdin = _pipe(child.stdin)
    with contextlib.suppress(BrokenPipeError):  # the child died; its exit status and stderr say why
        stdin.write(json.dumps(message) + "\n")
        stdin.flush()


def _listen(
    child: subprocess.Popen[str], progress: ReportProgress, hosts: HostScheduler, account: PageAccount
) -> CrawlSummary | None:
    summary: dict[str, Any] | None = None
    for line in _pipe(child.stdout):
        message = json.loads(line)
        if "hosts" in message:
            reports = {host: Report(**fields) for host, fields in message["hosts"].items()}
            _send(child, {host: asdict(permit) for host, permit in hosts.exchange(reports).items()})
        elif "pages" in message:
            _send(child, {"pages": account.take(message["pages"])})
        elif "summary" in message:
            summary = message["summary"]
        else:
            progress(message["done"], message["total"])
    if summary is None:
        return None
    problems = tuple(SourceProblem(**fields) for fields in summary["problems"])
    host_figures = tuple(HostFigures(**fields) for fields in summary["hosts"])
    outside = tuple(OutsideHost(**fields) for fields in summary["outside_hosts"])
    read = {"problems": problems, "hosts": host_figures, "outside_hosts": outside}
    return CrawlSummary(**{**summary, "engines": tuple(summary["engines"]), **read})


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise RuntimeError("the child was started without pipes")
    return pipe


def _stop(child: subprocess.Popen[str]) -> None:
    """Let the child finish its requests and flush; kill it when that takes too long."""
    child.send_signal(signal.SIGTERM)
    _close_pipes(child)  # the child gets no more permits, and must not wait for them
    try:
        child.wait(STOP_SECONDS)
    except BaseException:  # noqa: BLE001 - the caller raises its own
        # Too slow, or the caller is interrupted a second time: what is flushed is safe.
        child.kill()
        child.wait()


def _close_pipes(child: subprocess.Popen[str]) -> None:
    for pipe in (child.stdin, child.stdout):
        if pipe is not None and not pipe.closed:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def _tail(errors: IO[bytes]) -> str:
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - _TAIL_BYTES))
    return errors.read().decode("utf-8", "replace")
