"""`kb key`: with which keys a tenant's programs may act for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kb_pipeline.cli.session import JsonOption, home

if TYPE_CHECKING:
    from datetime import datetime

    from kb_pipeline.control.tenancy.api_keys import KeyRecord

key_app = typer.Typer(help="Create, list and revoke the API keys of a tenant.", no_args_is_help=True)

Tenant = Annotated[str, typer.Argument(metavar="TENANT", help="Whose keys.")]


@key_app.command()
def create(
    tenant: Tenant,
    scope: Annotated[list[str], typer.Option(help="What it may do: read, build or manage; may be given repeatedly.")],
    label: Annotated[str, typer.Option(help="What it is for, to tell it from others.")] = "",
    days: Annotated[int | None, typer.Option(help="For how many days it is valid.", min=1, max=36_500)] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it: only its hash is kept, so that it cannot be shown again."""
    from datetime import timedelta

    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.terminal import err, out

    lifetime = timedelta(days=days) if days else None
    key, described = home().keys.create(tenant, scope, label=label, lifetime=lifetime)
    if as_json:
        print_json({"key": key, **described.as_json()})
        return
    out.print(key, markup=False)
    err.print(f"key {described.id} of {tenant} is shown this once; give it to programs as KB_KEY", markup=False)


@key_app.command("list")
def list_them(tenant: Tenant, as_json: JsonOption = False) -> None:
    """List the keys: what they may do, until when, when they were used last (to the hour)."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.rows import print_table

    rows = home().keys.list(tenant)
    if as_json:
        print_json([row.as_json() for row in rows])
        return
    print_table(
        ["id", "label", "scopes", "last used", "state"],
        ([row.id, row.label, " ".join(row.scopes), _minute(row.last_used_at), _state(row)] for row in rows),
    )


@key_app.command()
def revoke(
    tenant: Tenant,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `kb key list` shows it.")],
    as_json: JsonOption = False,
) -> None:
    """Refuse a key from now on."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.terminal import out

    described = home().keys.revoke(tenant, key_id)
    if as_json:
        print_json(described.as_json())
    else:
        out.print(f"key {key_id} of {tenant} is refused from now on", markup=False)


def _state(row: KeyRecord) -> str:
    if row.revoked_at:
        return f"revoked {_minute(row.revoked_at)}"
    return f"until {_minute(row.expires_at)}" if row.expires_at else "valid"


def _minute(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if at else ""
