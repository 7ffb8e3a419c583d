"""`kb init`: writes a first KB file for a site or a folder, which works as it stands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kb_pipeline.cli.session import session


def init(
    target: Annotated[
        str | None, typer.Argument(metavar="[URL]", help="A site, or a folder of files; asked for without it.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="The file to write; - for standard output.")
    ] = None,
    tenant: Annotated[str, typer.Option(help="Whose KB it is to be.")] = "main",
    kb: Annotated[str | None, typer.Option(help="Its name; without it, after the site.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")] = False,
) -> None:
    """Write a first KB file: asks the site's robots.txt and sitemaps, and proposes scope, limits and schedule."""
    from kb_pipeline.cli.output import warn
    from kb_pipeline.cli.terminal import printable
    from kb_pipeline.errors import UsageError
    from kb_pipeline.operations.first_file import propose_file

    session().require_operator("init")
    settings = session().settings
    proposed = propose_file(_target(target), settings, tenant, kb)
    for line in proposed.found:
        sys.stderr.write(printable(line) + "\n")
    if not settings.contact:
        warn("set KB_CONTACT to your e-mail address or web page before you build: it is sent with every request")
    if str(output) == "-":
        sys.stdout.write(proposed.yaml)
        return
    path = output or Path(proposed.name)
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(proposed.yaml)
    except FileExistsError:
        raise UsageError(f"{path} exists; name another file with -o, or overwrite it with --force") from None
    sys.stdout.write(f"{path} is written; go on with:\n")
    for command in (f"apply {path}", f"build {proposed.key}", f"search {proposed.key} words of a question"):
        sys.stdout.write(f"  kb {command}\n")


def _target(given: str | None) -> str:
    from kb_pipeline.errors import UsageError

    if given:
        return given
    if not sys.stdin.isatty():
        raise UsageError("give the URL of a site or the path of a folder, as in: kb init https://docs.example.com/")
    return str(typer.prompt("The URL of a site, or the path of a folder", err=True)).strip()
