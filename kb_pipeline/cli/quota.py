"""`kb quota` and `kb usage`: what a tenant may still use, and what has been used."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kb_pipeline.cli.session import JsonOption, home, require_utf8

if TYPE_CHECKING:
    from kb_pipeline.control.metering.limits import QuotaRecord

_WIDTHS = {"pages": 10, "bytes": 14, "tokens": 12, "seconds": 10, "cost": 12}
"""Columns of figures, in characters."""


def quota(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's name.")],
    as_json: JsonOption = False,
) -> None:
    """Show each limit of a tenant: what is used, what is left, when it renews."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.rows import print_table

    rows = home().quotas(tenant)
    if as_json:
        print_json([row.as_json() for row in rows])
        return
    columns = ["limit", "used", "allowed", "left", "renews_at"]
    print_table(columns, ([_printed_value(row, name) for name in columns] for row in rows))


def usage(
    tenant: Annotated[str | None, typer.Argument(metavar="[TENANT]", help="One tenant; without, all of them.")] = None,
    kb: Annotated[
        str | None,
        typer.Option(metavar="K", help="Only KBs of that name, without the tenant's.", callback=require_utf8),
    ] = None,
    since: Annotated[str | None, typer.Option("--from", metavar="DAY", help="The first day (UTC): 2026-11-25.")] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="DAY", help="The last day.")] = None,
    by: Annotated[Literal["day", "kb", "operation", "model"] | None, typer.Option(help="Sum up by this alone.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV on stdout.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")] = False,
) -> None:
    """Show what was used: pages, bytes, tokens, seconds and what they cost, by KB, day, operation and model."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.errors import UsageError

    if as_csv and as_json:
        raise UsageError("give --csv or --json, not both")
    sums = home().usage(tenant, kb=kb, since=since, until=until, by=by)
    rows = (row.as_json() for row in sums)
    columns = ["tenant", *([by] if by else ["kb", "day", "operation", "model"])]
    columns += ["pages", "bytes", "tokens", "seconds", "cost"]
    if as_json:
        for row in rows:
            print_json(row)
    elif as_csv:
        _write_csv(columns, rows)
    else:
        _print_lines(columns, rows)


def _print_lines(columns: list[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Print each row as soon as it is read: there may be a year of them."""
    from kb_pipeline.cli.rows import plain
    from kb_pipeline.cli.terminal import printable

    if not sys.stdout.isatty():
        for row in rows:
            sys.stdout.write("\t".join(plain(row[name]) for name in columns) + "\n")
        return
    for row in chain([dict(zip(columns, columns, strict=True))], rows):
        cells = (f"{row[name]:>{_WIDTHS[name]}}" if name in _WIDTHS else f"{row[name]:<16}" for name in columns)
        sys.stdout.write(printable("  ".join(cells)) + "\n")


def _write_csv(columns: list[str], rows: Iterable[Mapping[str, Any]]) -> None:
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _printed_value(row: QuotaRecord, name: str) -> object:
    from kb_pipeline.cli.rows import Bytes

    value = getattr(row, name)
    if value is None:
        return {"allowed": "unlimited", "left": "unlimited"}.get(name, "")
    return Bytes(value) if row.limit == "storage" and isinstance(value, int) else value
