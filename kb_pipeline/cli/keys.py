"""`kb key` and `kb operator-key`: with which keys programs may act for a tenant, and for the operator."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from kb_pipeline.cli.session import JsonOption, home, require_utf8

if TYPE_CHECKING:
    from datetime import datetime

    from kb_pipeline.control.tenancy.api_keys import KeyRecord
    from kb_pipeline.control.tenancy.operator_keys import OperatorKeyRecord

key_app = typer.Typer(help="Create, list and revoke the API keys of a tenant.", no_args_is_help=True)
operator_key_app = typer.Typer(
    help="Create, list and revoke keys that may do what the operator may, for programs elsewhere.", no_args_is_help=True
)

Tenant = Annotated[str, typer.Argument(metavar="TENANT", help="Whose keys.")]
LabelOption = Annotated[str, typer.Option(help="What it is for, to tell it from others.")]
DaysOption = Annotated[int | None, typer.Option(help="For how many days it is valid.", min=1, max=36_500)]


@key_app.command()
def create(
    tenant: Tenant,
    scope: Annotated[
        list[str], typer.Option(help="What it may do: read, build, manage or admin; may be given repeatedly.")
    ],
    only_kbs: Annotated[
        list[str] | None,
        typer.Option("--kb", metavar="K", help="Only for this KB of the tenant, by name; may be given repeatedly."),
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(metavar="N", help="Over HTTP; its tenant's plan may allow less.", min=1, max=1_000_000)
    ] = None,
    label: LabelOption = "",
    days: DaysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it: only its hash is kept, so that it cannot be shown again."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.terminal import err, out

    key, described = home().keys.create(
        tenant, scope, label=label, kbs=only_kbs or None, requests_per_minute=requests_per_minute,
        lifetime=_lifetime(days),
    )  # fmt: skip
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
        ["id", "label", "scopes", "KBs", "last used", "state"],
        ([r.id, r.label, " ".join(r.scopes), _kbs(r), _minute(r.last_used_at), _state(r)] for r in rows),
    )


@key_app.command()
def revoke(
    tenant: Tenant,
    key_id: Annotated[
        str, typer.Argument(metavar="ID", help="The key's id, as `kb key list` shows it.", callback=require_utf8)
    ],
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


@operator_key_app.command("create")
def create_operators(label: LabelOption = "", days: DaysOption = None, as_json: JsonOption = False) -> None:
    """Make a key and print it: only its hash is kept, so that it cannot be shown again."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.terminal import err, out

    key, described = home().operator_keys.create(label=label, lifetime=_lifetime(days))
    if as_json:
        print_json({"key": key, **described.as_json()})
        return
    out.print(key, markup=False)
    err.print(f"operator key {described.id} is shown this once; whoever has it may do everything", markup=False)


@operator_key_app.command("list")
def list_operators(as_json: JsonOption = False) -> None:
    """List the keys: by whom, until when, when they were used last (to the hour)."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.rows import print_table

    rows = home().operator_keys.list()
    if as_json:
        print_json([row.as_json() for row in rows])
        return
    print_table(
        ["id", "label", "created by", "last used", "state"],
        ([row.id, row.label, row.created_by, _minute(row.last_used_at), _state(row)] for row in rows),
    )


@operator_key_app.command("revoke")
def revoke_operators(
    key_id: Annotated[
        str,
        typer.Argument(metavar="ID", help="The key's id, as `kb operator-key list` shows it.", callback=require_utf8),
    ],
    as_json: JsonOption = False,
) -> None:
    """Refuse a key from now on."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.terminal import out

    described = home().operator_keys.revoke(key_id)
    if as_json:
        print_json(described.as_json())
    else:
        out.print(f"operator key {key_id} is refused from now on", markup=False)


def _lifetime(days: int | None) -> timedelta | None:
    return timedelta(days=days) if days else None


def _kbs(row: KeyRecord) -> str:
    return "all" if row.kbs is None else " ".join(row.kbs)


def _state(row: KeyRecord | OperatorKeyRecord) -> str:
    if row.revoked_at:
        return f"revoked {_minute(row.revoked_at)}"
    return f"until {_minute(row.expires_at)}" if row.expires_at else "valid"


def _minute(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if at else ""
