"""`kb audit`: who changed what, and whether that is still what was written."""

from __future__ import annotations

import json
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated

import typer

from kb_pipeline.cli.rows import ColumnsOption, LimitOption
from kb_pipeline.cli.session import JsonOption, home

if TYPE_CHECKING:
    from kb_pipeline.control.tenancy.audit import AuditRecord

_COLUMNS: dict[str, Callable[[AuditRecord], object]] = {
    "number": attrgetter("number"),
    "at": attrgetter("at"),
    "actor": attrgetter("actor"),
    "action": attrgetter("action"),
    "subject": attrgetter("subject"),
    "before": lambda entry: _as_text(entry.before),
    "after": lambda entry: _as_text(entry.after),
}
audit_app = typer.Typer(help="List changes, and verify that their log was not tampered with.", no_args_is_help=True)

Tenant = Annotated[str, typer.Argument(metavar="[TENANT]", help="Whose changes; without it, the installation's.")]


@audit_app.command("list")
def list_them(
    tenant: Tenant = "", limit: LimitOption = None, columns: ColumnsOption = None, as_json: JsonOption = False
) -> None:
    """List changes, oldest first: by whom, when, from what to what."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.rows import print_rows

    entries = home().audit.list(tenant, limit=limit)
    if as_json:
        for entry in entries:
            print_json(entry.as_json())
        return
    print_rows(entries, _COLUMNS, list(_COLUMNS), chosen=columns)


@audit_app.command()
def verify(as_json: JsonOption = False) -> None:
    """Recompute the chain of every tenant's log; exit status 1 if one is broken.

    Keep the heads elsewhere: without them, entries that were cut off the end of a log are not noticed.
    """
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.rows import print_table

    chains = home().audit.verify()
    if as_json:
        print_json([chain.as_json() for chain in chains])
    else:
        print_table(
            ["tenant", "entries", "intact", "head"],
            ([c.tenant or "(installation)", c.entries, _state(c.broken_at), c.head] for c in chains),
        )
    raise typer.Exit(0 if all(chain.broken_at is None for chain in chains) else 1)


def _state(broken_at: int | None) -> str:
    return "yes" if broken_at is None else f"NO, at entry {broken_at}"


def _as_text(value: object) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False)
