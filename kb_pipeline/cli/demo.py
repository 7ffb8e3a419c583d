"""`kb demo`: a first run end to end, on the bundled sample site or on the caller's own."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import kb_pipeline
from kb_pipeline.cli.hits import print_hits
from kb_pipeline.cli.kbs import EXIT_STATUS
from kb_pipeline.cli.output import print_stages
from kb_pipeline.cli.progress import show_progress
from kb_pipeline.cli.terminal import err, out
from kb_pipeline.operations.first_file import propose_file
from kb_pipeline.settings import Settings

if TYPE_CHECKING:
    from kb_pipeline.installation import Kb
    from kb_pipeline.operations.launch import RefreshResult

_LOOPBACK = "127.0.0.0/8"
_QUESTIONS = 3


def run_demo(settings: Settings, url: str | None) -> int:
    """Build a KB of the sample site, or of the site at `url`, ask it three questions; returns the exit status."""
    if url is not None:
        err.print(f"looking at {url}", markup=False)
        proposed = propose_file(url, settings, tenant="demo")
        for line in proposed.found:
            err.print(line, markup=False)
        return _demo(settings, proposed.yaml, None)
    from kb_pipeline.demo_site.server import QUESTIONS, demo_spec, serve_demo_site

    # Whoever runs the demo is the operator: open loopback to it, as KB_ALLOW_PRIVATE_NETWORKS would.
    opened = replace(settings, allowed_networks=(*settings.allowed_networks, _LOOPBACK))
    with serve_demo_site() as base_url:
        out.print(f"the sample site answers at {base_url}")
        return _demo(opened, demo_spec(base_url), [(question.text, question.note) for question in QUESTIONS])


def _demo(settings: Settings, yaml: str, questions: Sequence[tuple[str, str]] | None) -> int:
    from kb_pipeline.operations.launch import RefreshCancelled

    with kb_pipeline.open(settings=settings) as home:
        applied = home.apply_text(yaml, "the demo's KB file")
        out.print(f"{applied.kb}: {applied.action}")
        kb = home.kb(applied.kb)
        try:
            with show_progress() as progress:
                result = kb.refresh(progress)
        except RefreshCancelled as end:
            result = end.result
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
    for line in _path_lines():
        out.print(f"  {line}", markup=False)
    out.print(f"  kb search {kb.key} your question")
    out.print("  kb init https://your.site/     writes the file of a KB of your own site")
    out.print("  kb list                        how all KBs stand")
    out.print("  kb up                          everything on this home: HTTP on http://127.0.0.1:8000/api/v1,")
    out.print("                                 Dagster's web UI on http://127.0.0.1:3000")


def _path_lines() -> Iterator[str]:
    """Yield the line after which a plain `kb` works, unless it does already."""
    program = Path(sys.argv[0]).absolute()
    if shutil.which("kb") is None and program.name == "kb":
        folder = str(program.parent)
        home = str(Path.cwd())
        shown = f"$PWD{folder.removeprefix(home)}" if folder.startswith(f"{home}/") else folder
        yield f'export PATH="{shown}:$PATH"     so that a plain kb works in this shell'
