"""`kb demo`: a first run end to end, on the bundled sample site or on one's own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from kb_pipeline.cli.build import EXIT_STATUS, run_refresh
from kb_pipeline.cli.output import err, out, print_stages
from kb_pipeline.cli.search import print_hits, search_kb
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs.catalog import apply_spec
from kb_pipeline.control.kbs.versions import live_manifest
from kb_pipeline.index.documents import list_documents
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.model import KbKey
from kb_pipeline.operations.source_rules import check_spec
from kb_pipeline.settings import Settings, load_settings
from kb_pipeline.spec.kb_file import KbSpec, parse_spec
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.paths import KbPaths

_LOOPBACK = "127.0.0.0/8"
_QUESTIONS = 3


def run_demo(url: str | None) -> int:
    """Build a KB of the sample site, or of the site at `url`, ask it three questions; returns the exit status."""
    if url is not None:
        return _demo(_own_spec(url), None)
    from kb_pipeline.demo_site.server import QUESTIONS, demo_spec, serve_demo_site

    with _loopback_opened(), serve_demo_site() as base_url:
        out.print(f"the sample site answers at {base_url}")
        return _demo(demo_spec(base_url), [(question.text, question.note) for question in QUESTIONS])


def _demo(yaml: str, questions: Sequence[tuple[str, str]] | None) -> int:
    settings = load_settings()
    db = Database(settings.database_url)
    spec = parse_spec(yaml, "the demo's KB file")
    check_spec(spec, "the demo's KB file", settings, is_operator=True)
    out.print(f"{spec.key}: {apply_spec(db, spec, yaml, settings.actor)}")
    result = run_refresh(settings, db, spec.key)
    _print_result(spec.key, result)
    status = EXIT_STATUS[result["status"]]
    if status == 0:
        store = KbStore(KbPaths(settings.data_dir, spec.key))
        _ask(settings, VersionReader(store, live_manifest(db, spec.key)), questions)
        _say_how_to_go_on(spec)
    return status


def _print_result(key: KbKey, result: dict[str, Any]) -> None:
    print_stages(result["stages"])
    version = f", version {result['version']}" if result["version"] else ""
    out.print(f"[bold]{key}: {result['status']}[/]{version} in {result['seconds']:.1f} s")
    if result["message"]:
        err.print(result["message"], markup=False)


def _ask(settings: Settings, version: VersionReader, questions: Sequence[tuple[str, str]] | None) -> None:
    for text, note in questions or _own_questions(version):
        out.print(f"\n[bold green]? {text}[/] [dim]({note})[/]")
        print_hits(search_kb(settings, version, text, k=3))


def _own_questions(version: VersionReader) -> Iterator[tuple[str, str]]:
    """Of a site we know nothing about we ask for the titles of three of its pages."""
    for document in islice(list_documents(version), _QUESTIONS):
        yield document.title, "the title of a page"


def _say_how_to_go_on(spec: KbSpec) -> None:
    out.print("[bold]Go on:[/]")
    out.print("  kb ui                              Dagster's web UI on this home, http://127.0.0.1:3000")
    out.print(f"  kb search {spec.key} 'your question'")
    out.print("  make demo URL=https://your.site/   a KB of your own site")
    out.print("  kb apply examples/documentation-site.yaml   what a KB file can say")


def _own_spec(url: str) -> str:
    """A KB file for one site: demo/<its host>."""
    host = urlsplit(url).hostname or "site"
    slug = re.sub(r"[^a-z0-9]+", "-", host.lower()).strip("-")[:63] or "site"
    import yaml

    source = {"name": "site", "type": "web", "start_urls": [url], "max_pages": 200}
    return yaml.safe_dump({"tenant": "demo", "kb": slug, "sources": [source]}, sort_keys=False)


@contextmanager
def _loopback_opened() -> Iterator[None]:
    """Whoever runs the demo is the operator: open loopback to it, as KB_ALLOW_PRIVATE_NETWORKS would."""
    before = os.environ.get("KB_ALLOW_PRIVATE_NETWORKS")
    os.environ["KB_ALLOW_PRIVATE_NETWORKS"] = f"{before},{_LOOPBACK}" if before else _LOOPBACK
    try:
        yield
    finally:
        if before is None:
            del os.environ["KB_ALLOW_PRIVATE_NETWORKS"]
        else:
            os.environ["KB_ALLOW_PRIVATE_NETWORKS"] = before
