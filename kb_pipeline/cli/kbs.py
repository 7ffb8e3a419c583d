"""`kb schema`, `apply`, `show`, `build`, `failures`, `explain`, `retry`, `delete`: a KB from file to end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kb_pipeline.cli.rows import ColumnsOption, LimitOption
from kb_pipeline.cli.session import (
    DryRunOption,
    JsonOption,
    KbArgument,
    YesOption,
    confirm,
    home,
    open_kb,
    require_all_utf8,
    require_utf8,
    session,
)

if TYPE_CHECKING:
    from kb_pipeline.operations.launch import ProgressListener

EXIT_STATUS = {
    "ready": 0, "ready_with_warnings": 0, "unchanged": 0, "failed": 1, "held": 3, "snoozed": 4, "cancelled": 130,
}  # fmt: skip


def schema() -> None:
    """Print the JSON Schema of KB files, with which editors complete and check them."""
    import json

    from kb_pipeline.spec.json_schema import kb_schema

    sys.stdout.write(json.dumps(kb_schema(), indent=2, ensure_ascii=False) + "\n")


def apply(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="KB files, folders that hold some, or - for standard input.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would change, and what the next refresh would do.")
    ] = False,
    reuse_key: Annotated[bool, typer.Option("--reuse-key", help="Take the key of a deleted tenant or KB.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Create or update KBs from their files; nothing is applied unless every file is valid."""
    from kb_pipeline.cli.output import print_json, warn
    from kb_pipeline.cli.show import print_applied
    from kb_pipeline.operations.apply import KbText

    given = [KbText(sys.stdin.read(), "standard input") if str(path) == "-" else path for path in files]
    applied = home().apply(*given, reuse_key=reuse_key, dry_run=dry_run)
    for item in applied:
        for message in item.warnings:
            warn(f"{item.kb}: {message}")
    if as_json:
        print_json([item.as_json() for item in applied])
        return
    for item in applied:
        print_applied(item)


def show(kb: KbArgument, as_json: JsonOption = False) -> None:
    """Print the KB file in force, as it was applied."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.terminal import printable

    file = open_kb(kb).file()
    if as_json:
        print_json(file.as_json())
    else:
        sys.stdout.write(printable(file.yaml.rstrip("\n")) + "\n")


def build(
    kb: KbArgument,
    force: Annotated[bool, typer.Option(help="Publish even what a check would hold for approval.")] = False,
    queue: Annotated[
        bool, typer.Option("--queue", help="Only ask for it: the daemon runs it in its tenant's turn.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Refresh a KB through Dagster and publish what passes its checks.

    Exit status 0 done, 1 failed, 3 held by a check, 4 snoozed: a daily quota of the tenant's plan is used up, 130
    cancelled: Ctrl-C ends it and keeps what was fetched, a second one at once.
    """
    from kb_pipeline.cli.output import print_json, print_stages, warn
    from kb_pipeline.cli.terminal import out
    from kb_pipeline.operations.launch import RefreshCancelled

    chosen = open_kb(kb)
    if queue:
        asked = chosen.request_refresh(force=force)
        if as_json:
            print_json({"kb": kb, "status": "queued"} | asked.as_json())
        else:
            out.print(f"{kb}: queued as request {asked.id}")
            out.print(f"its run has the tag kb/request with that value, and kb status {kb} shows how it goes")
        return
    try:
        with _progress() as progress:
            result = chosen.refresh(progress, force=force)
    except RefreshCancelled as end:
        result = end.result
    if as_json:
        print_json(result.as_json())
    else:
        print_stages(result.stages)
        version = f", version {result.version}" if result.version else ""
        out.print(f"{kb}: {result.status}{version} in {result.seconds:.1f} s")
    for line in (result.message or "").splitlines():
        (warn if result.succeeded else _print_error)(line)
    raise typer.Exit(EXIT_STATUS[result.status])


def _print_error(message: str) -> None:
    sys.stderr.write(f"kb: {message}\n")


@contextmanager
def _progress() -> Iterator[ProgressListener]:
    """Show how far a refresh is: bars on a terminal, else a line when a stage ends."""
    from kb_pipeline.cli.progress import show_progress

    with show_progress() as show:
        yield show


def failures(
    kb: KbArgument,
    reason: Annotated[str | None, typer.Option(help="Only with that reason code.")] = None,
    source: Annotated[str | None, typer.Option(help="Only of that source.")] = None,
    limit: LimitOption = None,
    columns: ColumnsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what could not be turned into searchable text, at which stage and why."""
    from kb_pipeline.cli.output import print_failures, print_json

    found = open_kb(kb).failures()
    rows = [row for row in found if reason in (None, row.reason) and source in (None, row.source)]
    if as_json:
        print_json([row.as_json() for row in rows[:limit]])
    else:
        print_failures(rows, columns, limit)


def explain(
    kb: KbArgument,
    url: Annotated[str, typer.Argument(metavar="URL", help="An address, met or not.", callback=require_utf8)],
    as_json: JsonOption = False,
) -> None:
    """Say what became of an address and why, or what would be decided about it; nothing is asked for."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.show import print_explanation

    found = open_kb(kb).explain(url)
    print_json(found.as_json()) if as_json else print_explanation(found)


def retry(
    kb: KbArgument,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY|ID...]",
            help="Keys without a document, or ids of failures; without any, all that failed or was refused.",
            callback=require_all_utf8,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask at once again for what failed or was refused, and say what is left of it; exit status 1 if anything is."""
    from kb_pipeline.cli.output import print_failures, print_json, warn
    from kb_pipeline.cli.terminal import out
    from kb_pipeline.operations.launch import RefreshCancelled

    chosen = open_kb(kb)
    try:
        with _progress() as progress:
            result = chosen.retry(*(names or ()), progress=progress)
    except RefreshCancelled as end:
        _print_error(str(end.result.message))
        raise typer.Exit(EXIT_STATUS["cancelled"]) from None
    if result.refresh is not None and result.refresh.status == "cancelled":
        _print_error(str(result.refresh.message))
        raise typer.Exit(EXIT_STATUS["cancelled"])
    if result.refresh is not None and not result.refresh.succeeded:
        for line in (result.refresh.message or "").splitlines():
            warn(line)
    if as_json:
        print_json([row.as_json() for row in result.left])
    elif result.left:
        print_failures(result.left)
    else:
        out.print("no failure is left")
    raise typer.Exit(1 if result.left else 0)


def delete(kb: KbArgument, dry_run: DryRunOption = False, yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Remove a KB at once, everything of it; its key is not reused silently. Prints the receipt."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.show import print_deletion, print_plan

    session().require_operator("delete")  # before anybody is asked
    if dry_run:
        plan = home().deletion_plan(kb)
        print_json(plan.as_json()) if as_json else print_plan(plan)
        return
    confirm(f"Remove everything of {kb} now, for good?", yes=yes)
    print_deletion(home().delete_kb(kb), as_json=as_json)
