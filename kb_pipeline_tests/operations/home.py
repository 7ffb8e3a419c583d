"""A home whose KBs are refreshed in this process, without Dagster, as one run does: stage by stage."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from kb_pipeline.clean import refresh as cleaning
from kb_pipeline.clean.html.document import read_html
from kb_pipeline.clean.rules import CleaningRules
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs import catalog, versions
from kb_pipeline.control.runs.failures import list_failures
from kb_pipeline.control.runs.refreshes import latest_refresh
from kb_pipeline.embed.model_cache import ModelCache
from kb_pipeline.errors import KbError
from kb_pipeline.fetch.web import source as web
from kb_pipeline.fetch.web.rules import CrawlRules
from kb_pipeline.fetch.web.source import crawl_rules
from kb_pipeline.index.documents import list_documents
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.index.search import Mode
from kb_pipeline.model import Document, KbKey, RawDocument, Rejected
from kb_pipeline.operations.readers import Readers
from kb_pipeline.operations.refresh import RefreshRun, open_refresh_run
from kb_pipeline.operations.search import search_kb
from kb_pipeline.settings import Settings
from kb_pipeline.spec.kb_file import parse_spec
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.manifest import Manifest
from kb_pipeline.store.paths import KbPaths
from kb_pipeline.store.stage_tables import CHUNKS, DOCUMENTS, INDEX_PREFIX, PAGES
from kb_pipeline_tests.databases import control_url
from kb_pipeline_tests.site import Site

KEY = KbKey("acme", "docs")
MODEL = "all-MiniLM-L6-v2"
MODES: tuple[Mode, ...] = ("hybrid", "vector", "keyword")
_IDS = {PAGES: "page_id", DOCUMENTS: "document_id", CHUNKS: "chunk_id"}


@contextmanager
def quick_refreshes() -> Iterator[None]:
    """One model, no worker processes and no second try in this process: what they cost is measured elsewhere."""

    def clean_here(raw: Iterable[RawDocument], rules: CleaningRules) -> Iterator[Document | Rejected]:
        return (read_html(item, rules) for item in raw)

    def ask_once(*arguments: Any) -> CrawlRules:
        return dataclasses.replace(crawl_rules(*arguments), retries=0)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cleaning, "clean_documents", clean_here)
        patched.setattr(web, "crawl_rules", ask_once)
        yield


@cache
def models_in(models_dir: Path) -> ModelCache:
    """Return the cache of all homes of a process: opening a model takes longer than most tests."""
    return ModelCache(models_dir)


def web_source(site: Site, **fields: Any) -> dict[str, Any]:
    """A source of a KB file that is the site."""
    return {"name": "site", "type": "web", "start_urls": [f"{site.url}/"], "delay_s": 0, **fields}


class Refreshed:
    """How a refresh ended, from its row in the control plane."""

    def __init__(self, row: Any) -> None:
        self.status, self.version, self.message = str(row.status), row.version, str(row.message or "")
        self.stages: dict[str, dict[str, Any]] = dict(row.stages)

    @property
    def cleaned(self) -> int:
        return int(self.stages["clean"]["in"] - self.stages["clean"]["unchanged"])

    @property
    def chunked(self) -> int:
        return int(self.stages["chunk"]["in"] - self.stages["chunk"]["unchanged"])

    @property
    def embedded(self) -> int:
        return int(self.stages["embed"]["embedded"])

    @property
    def worked(self) -> tuple[int, int, int]:
        """Documents cleaned, documents chunked, texts embedded."""
        return self.cleaned, self.chunked, self.embedded

    @property
    def ended(self) -> tuple[str, int | None]:
        return self.status, self.version


class Home:
    """One control plane and its data."""

    def __init__(self, folder: Path, models_dir: Path) -> None:
        folder.mkdir(exist_ok=True)
        if not (folder / "models").exists():
            (folder / "models").symlink_to(models_dir)
        self.models_dir = models_dir
        database = control_url(folder)
        self.settings = Settings(folder, database, folder / "data", "", ("127.0.0.0/8",), "text")
        self.db = Database(database)
        self.readers = Readers(self.settings, self.db)

    def apply(self, site: Site, key: KbKey = KEY, source: dict[str, Any] | None = None, **sections: Any) -> None:
        self.apply_sources(key, [web_source(site, **(source or {}))], **sections)

    def apply_sources(
        self, key: KbKey, sources: Sequence[dict[str, Any]], actor: str = "tester", **sections: Any
    ) -> None:
        spec = {"tenant": key.tenant, "kb": key.kb, "sources": sources, "embedding": {"model": MODEL}, **sections}
        yaml = json.dumps(spec)  # JSON is YAML
        catalog.apply_spec(self.db, parse_spec(yaml, "test"), yaml, actor)

    @contextmanager
    def begun(
        self, key: KbKey = KEY, *, force: bool = False, retry: bool = False, retry_ids: Sequence[str] = ()
    ) -> Iterator[RefreshRun]:
        """Begin a run whose candidate is not built yet."""
        run_id, models = f"run-{uuid.uuid4().hex[:12]}", models_in(self.models_dir)
        with open_refresh_run(
            self.settings, self.db, key, run_id, models=models, force=force, retry=retry, retry_ids=retry_ids
        ) as kb:
            for stage in (kb.fetch, kb.clean, kb.chunk, kb.embed):
                stage()
            yield kb

    def refresh(
        self, key: KbKey = KEY, *, force: bool = False, retry: bool = False, retry_ids: Sequence[str] = ()
    ) -> Refreshed:
        """Run a whole refresh; one that fails is recorded in its row as well."""
        try:
            with self.begun(key, force=force, retry=retry, retry_ids=retry_ids) as kb:
                if kb.build_candidate().status == "candidate" or force:
                    kb.publish()
        except KbError:
            pass
        return self.last(key)

    def last(self, key: KbKey = KEY) -> Refreshed:
        """Return the newest refresh."""
        return Refreshed(latest_refresh(self.db, key))

    def store(self, key: KbKey = KEY) -> KbStore:
        return KbStore(KbPaths(self.settings.data_dir, key))

    def live(self, key: KbKey = KEY) -> Manifest:
        return versions.live_manifest(self.db, key)

    def reader(self, key: KbKey = KEY) -> VersionReader:
        """Open the live version for reading."""
        return VersionReader(self.store(key), self.live(key))

    def keys(self, key: KbKey = KEY) -> list[str]:
        """Paths of the live version's documents."""
        return sorted("/" + row.key.split("/", 3)[3] for row in list_documents(self.reader(key)))

    def hits(self, query: str, as_of: int | None = None, mode: Mode = "hybrid", k: int = 10) -> list[dict[str, Any]]:
        return self.ask(query, as_of, mode, k)[1]

    def ask(self, query: str, as_of: int | None, mode: Mode, k: int = 10) -> tuple[int, list[dict[str, Any]]]:
        """As `kb search` does: the version's number and the hits."""
        found = search_kb(self.readers, KEY, query, k=k, mode=mode, as_of=str(as_of) if as_of else None)
        return found.version, [hit.as_json() for hit in found]

    def answers(self, as_of: int | None = None, *queries: str) -> str:
        """Return the results of every search mode for the queries, as one text."""
        return json.dumps([self.hits(query, as_of, mode) for query in queries for mode in MODES])

    def failures(self) -> dict[str, str]:
        """Reason by path."""
        return {"/" + row.key.split("/", 3)[3]: row.reason for row in list_failures(self.db, KEY)}

    def chunk_ids(self, key: KbKey = KEY) -> list[str]:
        """Of the head, sorted."""
        return sorted(self.store(key).tables.open(CHUNKS).read_columns(["chunk_id"])["chunk_id"])

    def statuses(self) -> dict[int, str]:
        return {row.version: row.status for row in versions.list_versions(self.db, KEY)}

    def doubled(self) -> dict[str, int]:
        """Rows too many of each table's head that has any."""
        tables = self.store().tables
        ids = _IDS | dict.fromkeys(tables.names(INDEX_PREFIX), "chunk_id")
        frames = {name: tables.open(name).read_columns([column])[column] for name, column in ids.items()}
        return {name: len(frame) - frame.n_unique() for name, frame in frames.items() if not frame.is_unique().all()}
