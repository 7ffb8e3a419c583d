"""A home whose stages fetch and clean run in this process and in virtual time over a model of a site."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kb_pipeline.clean import refresh as clean_stage
from kb_pipeline.clean.html.document import read_html
from kb_pipeline.clean.refresh import refresh_documents
from kb_pipeline.clean.rules import CleaningRules
from kb_pipeline.fetch import journal, refresh
from kb_pipeline.fetch.refresh import refresh_pages
from kb_pipeline.fetch.revisit import RevisitPolicy
from kb_pipeline.fetch.source import PageAccount
from kb_pipeline.fetch.web import source
from kb_pipeline.fetch.web.crawl import process, worker
from kb_pipeline.fetch.web.crawl.crawler import Crawler
from kb_pipeline.fetch.web.http import aiohttp_transport, scrapy_transport
from kb_pipeline.fetch.web.http.client import Request, Response, Transport
from kb_pipeline.fetch.web.rules import CrawlFiles, CrawlRules, CrawlSummary
from kb_pipeline.fetch.web.source import WebSite
from kb_pipeline.host_scheduler import HostScheduler, LocalHostScheduler, Permit, Report
from kb_pipeline.model import Document, KbKey, RawDocument, Rejected, ReportProgress, StageReport, document_id
from kb_pipeline.store import raw_segments, table_handle
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.paths import KbPaths
from kb_pipeline.store.stage_tables import DOCUMENTS, PAGES
from kb_pipeline_tests.fetch.site_model import File, Server
from kb_pipeline_tests.fetch.web.conftest import rules_for
from kb_pipeline_tests.fetch.web.scripted import SITE, ScriptedSite
from kb_pipeline_tests.fetch.web.virtual_time import run_in_virtual_time

Kill = tuple[str, int]
"""How a refresh ends early, and at which request or failpoint: see Plan."""


class Killed(BaseException):
    """A refresh that ended early: as if by Ctrl-C, or as if its process had been killed."""


@dataclass(frozen=True)
class StoredDocument:
    """A row of `documents` that is one, a copy, or left out of the index."""

    markdown: str
    duplicate_of: str | None
    """A path."""
    left_out: str | None


@dataclass(frozen=True)
class StoredPage:
    """A row of `pages`."""

    outcome: str
    reason: str | None
    sha256: str | None


class ModelHome:
    """One KB with one source, the site of `server`."""

    def __init__(self, folder: Path, server: Server) -> None:
        self._paths, self._server, self._site = KbPaths(folder, KbKey("acme", "docs")), server, server.url

    def refresh(self, file: File, *, retry: bool = False, kill: Kill = ("", 0)) -> list[StageReport]:
        """Run both stages; raise Killed where they are to end early, SourceFailed as the stage does."""
        store, plan = self._store(), _Plan(*kill)
        policy = RevisitPolicy(retry=retry)
        with _in_process(self._server, plan), plan.failpoints():
            crawled = refresh_pages(
                store, [WebSite(_rules(file))], "run", _no_progress, lambda _: LocalHostScheduler(), policy
            )
            return [crawled, refresh_documents(store, CleaningRules(), "run", _no_progress)]

    def pages(self) -> dict[str, StoredPage]:
        """Return the rows of `pages` by path."""
        store = self._store()
        if not store.has_table(PAGES):
            return {}
        rows = store.tables.open(PAGES).read_columns(["key", "outcome", "reason", "sha256"])
        return {key.removeprefix(self._site): StoredPage(*fields) for key, *fields in rows.iter_rows()}

    def documents(self) -> dict[str, StoredDocument]:
        """Return the documents by path, copies and those left out included."""
        table = self._store().tables.open(DOCUMENTS)
        has_column = "left_out" in table.schema.names
        columns = ["document_id", "key", "markdown", "duplicate_of", *(["left_out"] if has_column else [])]
        rows = list(table.read_columns(columns, "outcome = 'document'").iter_rows(named=True))
        paths = {row["document_id"]: row["key"].removeprefix(self._site) for row in rows}
        return {
            paths[row["document_id"]]: StoredDocument(
                row["markdown"] or "", paths.get(row["duplicate_of"], row["duplicate_of"]), row.get("left_out")
            )
            for row in rows
        }

    def _store(self) -> KbStore:
        return KbStore(self._paths)  # anew each time, as each refresh has a process of its own


def _rules(file: File) -> CrawlRules:
    return rules_for(
        *(SITE + path for path in file.start),
        include=file.include,
        exclude=file.exclude,
        max_pages=file.max_pages,
        max_depth=file.max_depth,
        sitemap=file.sitemap,
        erased=tuple(document_id("site", SITE + path) for path in file.erased),
        retries=0,
    )


def _no_progress(done: int, total: int | None) -> None:
    del done, total


class _Plan:
    """When a refresh ends early: `stop` and `kill` at a request, `failpoint` at the so many-th one that it passes."""

    def __init__(self, how: str, at: int) -> None:
        self.how, self._left = how, at
        self.crawler: Crawler | None = None
        self.is_over = False

    def count(self, what: str) -> None:
        """Count a request or a failpoint; raise Killed when it is the one."""
        if self.how != what or self.is_over:
            return
        self._left -= 1
        if self._left <= 0:
            self.is_over = True
            if what != "stop":
                raise Killed
            if self.crawler is not None:
                self.crawler.stop()

    def failpoints(self) -> Any:
        """Patch the failpoints of both stages."""
        patched = pytest.MonkeyPatch()
        for module in (refresh, raw_segments, table_handle):
            patched.setattr(module, "failpoint", lambda name: self.count("failpoint"))
        return _undone(patched)


@dataclass
class _undone:  # noqa: N801 - used like a function
    patched: pytest.MonkeyPatch

    def __enter__(self) -> None: ...

    def __exit__(self, *exception: object) -> None:
        self.patched.undo()


class _Pipe:
    """The parent's end of a crawl, without a parent."""

    def __init__(self) -> None:
        self._hosts = LocalHostScheduler()

    async def __call__(self, reports: Mapping[str, Report]) -> Mapping[str, Permit]:
        return self._hosts.exchange(reports)

    async def take_pages(self, pages: int) -> int | None:
        del pages
        return None


class _CrawlHere:
    """Stands for CrawlProcess: the worker's own code, in this process."""

    def __init__(self, server: Server, plan: _Plan) -> None:
        self._server, self._plan = server, plan

    def __enter__(self) -> _CrawlHere:
        return self

    def __exit__(self, *exception: object) -> None: ...

    def run(
        self, rules: CrawlRules, files: CrawlFiles, progress: ReportProgress, hosts: HostScheduler, account: PageAccount
    ) -> CrawlSummary:
        """Crawl as the child would; raise Killed if the plan says so."""
        for folder in (files.journal, files.notes):
            folder.mkdir(parents=True, exist_ok=True)
        told: list[dict[str, Any]] = []
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(worker, "_print", told.append)
            patched.setattr(worker, "_stop_on_signals", lambda crawler: setattr(self._plan, "crawler", crawler))
            patched.setattr(worker._ParentPipe, "open", _open_pipe)
            transport = _transport(self._server, self._plan)
            patched.setattr(aiohttp_transport, "transport", lambda rules: _lent(transport))
            patched.setattr(scrapy_transport, "run", lambda work, rules: work(transport))
            if self._plan.how == "kill":
                patched.setattr(journal.JournalWriter, "close", _abandon)
            run_in_virtual_time(worker._crawl({"rules": rules.as_json(), "files": files.as_json()}))
        if self._plan.is_over or self._plan.how == "kill":  # at the latest when the crawl was at its end
            raise Killed
        lines = [json.dumps(message) for message in told if "summary" in message]
        summary = process._listen(cast(Any, SimpleNamespace(stdout=lines)), progress, hosts, account)
        assert summary is not None
        return summary


async def _open_pipe() -> _Pipe:
    return _Pipe()


def _abandon(writer: journal.JournalWriter[Any]) -> None:
    """Leave the open segment as a killed process does."""
    writer._wait()
    writer._thread.shutdown()


def _transport(server: Server, plan: _Plan) -> Transport:
    site = ScriptedSite()

    async def send(request: Request) -> Response:
        plan.count("kill")
        plan.count("stop")
        site.answers[request.url] = lambda request, _: server.answer(request)
        return await site(request)

    return send


@asynccontextmanager
async def _lent(transport: Transport) -> AsyncIterator[Transport]:
    yield transport


def _in_process(server: Server, plan: _Plan) -> Any:
    patched = pytest.MonkeyPatch()
    patched.setattr(source, "CrawlProcess", lambda *, knows_pages: _CrawlHere(server, plan))
    patched.setattr(clean_stage, "clean_documents", _clean_here)
    return _undone(patched)


def _clean_here(raw: Iterable[RawDocument], rules: CleaningRules) -> Iterator[Document | Rejected]:
    return (read_html(document, rules) for document in raw)
