"""What the cases that are small sites say of redirects, errors, links and sitemaps holds of one KB over all of them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from kb_pipeline_tests.databases import drop_databases, home_environment
from kb_pipeline_tests.kb import Done, Kb
from kb_pipeline_tests.page_cases.cases import read_cases
from kb_pipeline_tests.page_cases.checks import Chunk, Outcome, problems
from kb_pipeline_tests.page_cases.site_server import SiteServer, SmallSite, serve_sites

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("page_sites")]  # one worker builds what all of them look at
CASES = [case for case in read_cases() if case.routes is not None]


@dataclass(frozen=True)
class Built:
    """A KB over all sites, and how often its refresh asked for what."""

    server: SiteServer
    documents: Mapping[str, Mapping[str, Any]]
    chunks: Mapping[str, list[Chunk]]
    aliases: Mapping[str, str]
    """Keys of documents by their other addresses."""
    reasons: Mapping[str, str]

    def site(self, name: str) -> SmallSite:
        return next(site for site in self.server.sites if site.case.name == name)

    def has(self, url: str) -> bool:
        return url in self.documents or url in self.aliases

    def outcome(self, url: str) -> Outcome:
        key = self.aliases.get(url, url)
        document = self.documents.get(key)
        if document is None:
            return Outcome(reason=self.reasons.get(url))
        return Outcome(document["markdown"], document["title"], document["language"], self.chunks.get(key, []))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, empty_home: Path) -> Iterator[Built]:
    folder = tmp_path_factory.mktemp("sites")
    shutil.copytree(empty_home, folder / "home")
    (folder / "home/models").symlink_to(models_dir)
    with pytest.MonkeyPatch.context() as environment, serve_sites(CASES) as server:
        for name in ("KB_DATABASE_URL", "KB_STORAGE_URI", "KB_KEY", "KB_SECRET_KEYS"):
            environment.delenv(name, raising=False)
        for name, value in home_environment(folder / "home").items():
            environment.setenv(name, value)
        yield _build(server, Kb(folder))
    drop_databases(folder)


def _build(server: SiteServer, kb: Kb) -> Built:
    sources = [_source(kind, sites) for kind, sites in _by_kind(server.sites).items()]
    model = {"model": "all-MiniLM-L6-v2"}  # opens four times as fast as the default
    spec = {"tenant": "lab", "kb": "cases", "sources": sources, "embedding": model, "publish": {"max_shrink": 1.0}}
    (kb.folder / "kb.yaml").write_text(json.dumps(spec))
    _run(kb, "apply", "kb.yaml")
    _run(kb, "build", "lab/cases")
    _run(kb, "export", "lab/cases", "out")
    documents = pl.read_parquet(kb.folder / "out" / "documents*.parquet").to_dicts()
    chunks: dict[str, list[Chunk]] = {}
    for row in pl.read_parquet(kb.folder / "out" / "chunks*.parquet").sort("ordinal").to_dicts():
        chunks.setdefault(row["key"], []).append(Chunk(row["text"], tuple(row["headings"])))
    listed = _run(kb, "documents", "lab/cases", "--json").lines
    aliases = {alias: row["key"] for row in listed for alias in row.get("aliases") or ()}
    failures = _run(kb, "failures", "lab/cases", "--json").json
    reasons = {row["key"]: row["reason"] for row in reversed(failures)}
    return Built(server, {row["key"]: row for row in documents}, chunks, aliases, reasons)


def _by_kind(sites: Sequence[SmallSite]) -> dict[str, list[SmallSite]]:
    """Return the sites that one source crawls: a source a site would start as many processes, two seconds each."""
    found: dict[str, list[SmallSite]] = {}
    for site in sites:
        # What a case says of its source holds of that source alone.
        found.setdefault(site.case.name if site.case.source else site.case.kind, []).append(site)
    return found


def _source(kind: str, sites: Sequence[SmallSite]) -> dict[str, Any]:
    settings = {"delay_s": 0, "max_pages": 200, "max_depth": 10, "sitemap": "auto", **(sites[0].case.source or {})}
    if isinstance(settings["sitemap"], list):
        settings["sitemap"] = [url.replace("{BASE}", sites[0].base) for url in settings["sitemap"]]
    start_urls = [site.base + path for site in sites for path in site.case.start]
    return {"name": kind, "type": "web", "start_urls": start_urls, **settings}


def _run(kb: Kb, *arguments: str) -> Done:
    done = kb(*arguments)
    assert done.status in (0, 3), f"{arguments}: {done.out[-3000:]} {done.err[-3000:]}"  # 3: with failures
    return done


def test_all_sites_are_here() -> None:
    assert len(CASES) >= 26


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_site_becomes_its_documents(name: str, built: Built) -> None:
    site = built.site(name)
    checks, base = site.case.checks, site.base
    found = [f"no document {path}: {built.reasons.get(base + path)}"
             for path in checks.get("docs", ()) if not built.has(base + path)]  # fmt: skip
    found += [f"{path} is a document" for path in checks.get("nodocs", ()) if base + path in built.documents]
    found += [f"no document {path} of host 2" for path in site.case.host2_docs if not built.has(site.base2 + path)]
    for path, reason in checks.get("fail", {}).items():
        if not re.search(reason, str(built.reasons.get(base + path))):
            found.append(f"{path}: {built.reasons.get(base + path)}")
    for path, count in checks.get("asked", {}).items():
        if built.server.asked[base + path] != count:
            found.append(f"{path} asked for {built.server.asked[base + path]} times")
    for path, wanted in checks.get("page", {}).items():
        found += [f"{path}: {problem}" for problem in problems(wanted, built.outcome(base + path))]
    assert not found
