"""`kb demo`: a first run end to end, on the bundled sample site or on the caller's own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import kb_pipeline
from kb_pipeline.cli.kbs import EXIT_STATUS
from kb_pipeline.cli.output import err, out, print_stages
from kb_pipeline.cli.progress import show_progress
from kb_pipeline.cli.show import print_hits
from kb_pipeline.settings import Settings

if TYPE_CHECKING:
    from kb_pipeline.installation import Kb
    from kb_pipeline.operations.launch import RefreshResult

_LOOPBACK = "127.0.0.0/8"
_QUESTIONS = 3


def run_demo(settings: Settings, url: str | None) -> int:
    """Build a KB of the sample site, or of the site at `url`, ask it three questions; returns the exit status."""
    if url is not None:
        return _demo(settings, _own_spec(url), None)
    from kb_pipeline.demo_site.server import QUESTIONS, demo_spec, serve_demo_site

    # Whoever runs the demo is the operator: open loopback to it, as KB_ALLOW_PRIVATE_NETWORKS would.
    opened = replace(settings, allowed_networks=(*settings.allowed_networks, _LOOPBACK))
    with serve_demo_site() as base_url:
        out.print(f"the sample site answers at {base_url}")
        return _demo(opened, demo_spec(base_url), [(question.text, question.note) for question in QUESTIONS])


def _demo(settings: Settings, yaml: str, questions: Sequence[tuple[str, str]] | None) -> int:
    with kb_pipeline.open(settings=settings) as home:
        applied = home.apply_text(yaml, "the demo's KB file")
        out.print(f"{applied.kb}: {applied.action}")
        kb = home.kb(applied.kb)
        with show_progress() as progress:
            result = kb.refresh(progress)
        _print_result(kb, result)
        if result.succeeded:
            _ask(kb, questions)
            _print_next_steps(kb)
        return EXIT_STATUS[result.status]


def _print_result(kb: Kb, result: RefreshResult) -> None:
    print_stages(result.stages)
    version = f", version {result.version}" if result.version else ""
    out.print(f"[bold]{kb.key}: {result.status}[/]{version} in {result.seconds:.1f} s")
    if result.message:
        err.print(result.message, markup=False)


def _ask(kb: Kb, questions: Sequence[tuple[str, str]] | None) -> None:
    for text, note in questions or _own_questions(kb):
        out.print(f"\n[bold green]? {text}[/] [dim]({note})[/]")
        print_hits(kb.search(text, k=3))


def _own_questions(kb: Kb) -> Iterator[tuple[str, str]]:
    """Yield the titles of three pages as questions, for a site of which nothing is known."""
    for document in islice(kb.documents(), _QUESTIONS):
        yield document.title, "the title of a page"


def _print_next_steps(kb: Kb) -> None:
    out.print("[bold]Go on:[/]")
    out.print("  kb ui                              Dagster's web UI on this home, http://127.0.0.1:3000")
    out.print(f"  kb search {kb.key} 'your question'")
    out.print("  make demo URL=https://your.site/   a KB of your own site")
    out.print("  kb apply examples/documentation-site.yaml   what a KB file can say")


def _own_spec(url: str) -> str:
    """Return a KB file for one site: demo/<its host>."""
    host = urlsplit(url).hostname or "site"
    slug = re.sub(r"[^a-z0-9]+", "-", host.lower()).strip("-")[:63] or "site"
    import yaml

    source = {"name": "site", "type": "web", "start_urls": [url], "max_pages": 200}
    return yaml.safe_dump({"tenant": "demo", "kb": slug, "sources": [source]}, sort_keys=False)
