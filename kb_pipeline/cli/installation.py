"""`kb backup`, `restore`, `demo`, `up`, `ui` and `doctor`: the installation as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kb_pipeline.cli.serve import HostOption, WorkersOption
from kb_pipeline.cli.session import JsonOption, home, session


def backup(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A directory that does not exist yet.")],
    as_json: JsonOption = False,
) -> None:
    """Copy control plane and data as they are at one moment, while refreshes go on."""
    from kb_pipeline.cli.show import print_backup

    print_backup(home().backup(directory), as_json=as_json)


def restore(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A backup.")],
    into: Annotated[Path | None, typer.Option(metavar="HOME", help="An empty home; without it, KB_HOME.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Put a backup into an empty home, every checksum verified before, every live version searched once."""
    from kb_pipeline.cli.show import print_backup
    from kb_pipeline.installation import restore as restore_backup

    session().require_operator("restore")
    print_backup(restore_backup(directory, into), as_json=as_json)


def demo(
    url: Annotated[str | None, typer.Option(help="Build a KB of this site instead of the bundled one.")] = None,
) -> None:
    """Build a KB of the bundled sample site (or of your own) and ask it three questions."""
    from kb_pipeline.cli.demo import run_demo

    session().require_operator("demo")
    raise typer.Exit(run_demo(session().settings, url))


def ui(port: Annotated[int, typer.Option(help="Where the web UI listens, on loopback.")] = 3000) -> None:
    """Start Dagster's web UI, sensors and schedules on this home."""
    session().require_operator("ui")
    from kb_pipeline.cli.ui import serve

    serve(home().settings, port)


def up(
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Where the HTTP service listens.")] = 8000,
    workers: WorkersOption = 1,
    ui_port: Annotated[int, typer.Option("--ui-port", min=1, max=65535, help="Where the web UI listens.")] = 3000,
) -> None:
    """Start everything on this home: the HTTP service, Dagster's web UI, sensors and schedules."""
    session().require_operator("up")
    from kb_pipeline.cli.ui import HttpService, serve

    serve(home().settings, ui_port, HttpService(host, port, workers))


def doctor(as_json: JsonOption = False) -> None:
    """Check what kb_pipeline depends on, now and later; exit status 1 if anything is broken now."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.rows import print_table

    session().require_operator("doctor")
    from kb_pipeline.cli.doctor import examine

    findings = examine(session().settings)
    if as_json:
        print_json([finding.as_json() for finding in findings])
    else:
        print_table(["check", "ok", "what"], ([each.check, each.verdict, each.what] for each in findings))
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 1)
