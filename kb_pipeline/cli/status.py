"""`kb list`, `status`, `logs` and `cancel`: how KBs stand, what their refreshes do, and how to stop one."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated

import typer

from kb_pipeline.cli.rows import ColumnsOption, LimitOption
from kb_pipeline.cli.session import JsonOption, KbArgument, home, kb_key, open_kb

if TYPE_CHECKING:
    from kb_pipeline.cli.rows import Columns
    from kb_pipeline.control.runs.overview import KbOverview
    from kb_pipeline.control.runs.status import KbStatus

_WATCH_S = 2.0
_SHOWN = ("kb", "state", "version", "documents", "failures", "held", "last refresh", "next refresh")


def list_kbs(
    tenant: Annotated[str | None, typer.Argument(metavar="[TENANT]", help="Only that tenant's.")] = None,
    state: Annotated[str | None, typer.Option(help="Only in that state, such as held, failed or running.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew every two seconds, until Ctrl-C.")] = False,
    limit: LimitOption = None,
    columns: ColumnsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the KBs: state, live version, documents, last and next refresh, failures."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.rows import print_rows
    from kb_pipeline.errors import UsageError

    def rows() -> list[KbOverview]:
        found = home().overview(tenant)
        return [row for row in found if state in (None, row.status)][:limit]

    if watch:
        if as_json or not sys.stdout.isatty():
            raise UsageError("--watch is for a terminal; for a program, run kb list --json again and again")
        _watch(rows, columns)
    elif as_json:
        print_json([row.as_json() for row in rows()])
    else:
        found = rows()
        print_rows(found, _columns(), _SHOWN, chosen=columns)
        if not found and sys.stdout.isatty():
            sys.stderr.write("no KB is in that state\n" if state else "no KB yet; begin with: kb init URL\n")


def _columns() -> Columns[KbOverview]:
    from kb_pipeline.cli.rows import Ago, Code

    return {
        "kb": attrgetter("kb"),
        "state": lambda row: Code(row.status),
        "version": attrgetter("live_version"),
        "documents": attrgetter("documents"),
        "chunks": attrgetter("chunks"),
        "failures": attrgetter("failures"),
        "held": attrgetter("held_version"),
        "last refresh": lambda row: Ago.of(row.last_refresh_at),
        "next refresh": lambda row: Ago.of(row.next_refresh_at),
    }


def _watch(rows: Callable[[], list[KbOverview]], columns: str | None) -> None:
    from kb_pipeline.cli.rows import print_rows

    try:
        while True:
            found = rows()
            sys.stdout.write("\x1b[2J\x1b[H")  # clear the screen
            print_rows(found, _columns(), _SHOWN, chosen=columns)
            sys.stdout.flush()
            time.sleep(_WATCH_S)
    except KeyboardInterrupt:
        return


def status(
    kb: Annotated[str | None, typer.Argument(metavar="[KB]", help="The KB: tenant/kb; without it, all.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show how a KB stands, or all: live version, what runs now, why one is held, how the last refresh ended."""
    from kb_pipeline.cli.output import print_json

    if kb is not None:
        described = open_kb(kb_key(kb)).status()
        print_json(described.as_json()) if as_json else _print_status(described)
        return
    all_of_them = [each.status() for each in home().kbs()]
    if as_json:
        print_json([each.as_json() for each in all_of_them])
        return
    for number, each in enumerate(all_of_them):
        if number:
            sys.stdout.write("\n")
        _print_status(each)


def _print_status(described: KbStatus) -> None:
    from kb_pipeline.cli.output import account_fields, print_stages
    from kb_pipeline.cli.rows import Ago, for_people, print_fields
    from kb_pipeline.units import span

    last, schedule = described.last_run, described.schedule
    fields: dict[str, object] = {"kb": described.kb, "status": described.status}
    if described.held_version is not None:
        fields["held"] = f"version {described.held_version}: {described.held_because or 'a check did not pass'}"
        fields["to publish it"] = f"kb approve {described.kb} {described.held_version}"
    fields |= {"live version": described.live_version or "none yet"}
    if described.live_version is not None:
        fields |= {"documents": described.documents, "chunks": described.chunks, "model": described.model}
        fields["languages"] = ", ".join(f"{name} {count:,}" for name, count in described.languages.items())
    if described.failures:
        fields["failures"] = f"{described.failures:,}; see kb failures {described.kb}"
    if described.account:
        fields |= account_fields(described.account)
    if running := described.running:
        total = f" of {running.total:,}" if running.total is not None else ""
        left = f", {span(running.eta_s)} left" if running.eta_s is not None else ""
        fields["running"] = f"{running.stage or 'between two stages'}: {running.done:,}{total}{left}"
    for asked in described.requested:
        fields["requested"] = f"{for_people(asked.requested_at)} by {asked.requested_by}"
    if schedule:
        following = f", next {for_people(Ago.of(schedule.next_refresh_at))}" if schedule.next_refresh_at else ", paused"
        fields["schedule"] = f"{schedule.cron} ({schedule.timezone}){following}"
    if last:
        ended = (
            f"{for_people(last.ended_at)} after {span((last.ended_at - last.started_at).total_seconds())}"
            if (last.ended_at)
            else f"began {for_people(last.started_at)}"
        )
        fields["last refresh"] = f"{last.status}, {ended}"
        fields["its run"] = last.run_id
        fields["its message"] = last.message
    print_fields(fields)
    if last:
        print_stages(last.stages)


def logs(
    kb: KbArgument,
    run: Annotated[
        str | None, typer.Option("--run", metavar="ID", help="An earlier run; without it the newest.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a refresh did: its stages, checks, warnings and errors, as Dagster recorded them."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.rows import print_rows

    lines = open_kb(kb).logs(run, follow=follow)
    if as_json:
        for line in lines:
            print_json(line.as_json())
        return
    if sys.stdout.isatty():
        from kb_pipeline.cli.terminal import printable

        for line in lines:
            place = f"{line.stage}: " if line.stage else ""
            sys.stdout.write(printable(f"{line.at:%H:%M:%S}  {line.level:<8} {place}{line.message}\n"))
        return
    names = ("at", "level", "stage", "message")
    print_rows(lines, {name: attrgetter(name) for name in names}, names)


def cancel(kb: KbArgument, as_json: JsonOption = False) -> None:
    """Stop the refresh that runs or waits; what it fetched is kept, the live version stays."""
    from kb_pipeline.cli.output import print_json

    cancelled = open_kb(kb).cancel()
    if as_json:
        print_json(cancelled.as_json())
        return
    for line in cancelled.told():
        sys.stdout.write(f"{kb}: {line}\n")
