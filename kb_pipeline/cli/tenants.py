"""`kb tenant`: the customers of this installation."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from kb_pipeline.cli.session import JsonOption, YesOption, confirm, home, session

if TYPE_CHECKING:
    from kb_pipeline.control.tenancy.tenants import TenantRecord

tenant_app = typer.Typer(help="Create, look at, suspend, resume and delete tenants.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's name, as in its KBs' keys.")]

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_LONGEST_GRACE = timedelta(days=3650)


@tenant_app.command()
def create(
    tenant: Name,
    plan: Annotated[str, typer.Option(help="The plan that limits it.")] = "default",
    reuse_key: Annotated[bool, typer.Option("--reuse-key", help="Take the name of a deleted tenant.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Add a tenant; applying a KB file of a new tenant does so too, with the plan `default`."""
    _print(home().tenants.create(tenant, plan, reuse_key=reuse_key), as_json=as_json)


@tenant_app.command("list")
def list_them(as_json: JsonOption = False) -> None:
    """List the tenants."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.rows import print_table

    rows = home().tenants.list()
    if as_json:
        print_json([row.as_json() for row in rows])
        return
    columns = ["tenant", "plan", "status", "kbs", "reason"]
    print_table(columns, ([getattr(row, name) for name in columns] for row in rows))


@tenant_app.command()
def show(tenant: Name, as_json: JsonOption = False) -> None:
    """Show one tenant: its plan, whether it is active, since when."""
    _print(home().tenants.get(tenant), as_json=as_json)


@tenant_app.command()
def plan(
    tenant: Name,
    name: Annotated[str, typer.Argument(metavar="PLAN", help="The plan's name.")],
    as_json: JsonOption = False,
) -> None:
    """Give a tenant another plan."""
    _print(home().tenants.set_plan(tenant, name), as_json=as_json)


@tenant_app.command()
def suspend(
    tenant: Name,
    reason: Annotated[str, typer.Option(help="Why; whoever is refused is told.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Refuse a tenant's refreshes and searches from now on; nothing of it is lost."""
    _print(home().tenants.suspend(tenant, reason), as_json=as_json)


@tenant_app.command()
def resume(tenant: Name, as_json: JsonOption = False) -> None:
    """Let a tenant go on."""
    _print(home().tenants.resume(tenant), as_json=as_json)


@tenant_app.command()
def delete(
    tenant: Name,
    grace: Annotated[str, typer.Option(help="How long it can be taken back, as in 12h or 7d.")] = "7d",
    now: Annotated[bool, typer.Option("--now", help="Remove it at once; nothing can be taken back.")] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Refuse a tenant's runs and searches at once; after the grace, remove everything of it and keep a receipt."""
    from kb_pipeline.cli.show import print_deletion

    if not now:
        _print(home().tenants.schedule_deletion(tenant, _parse_grace(grace)), as_json=as_json)
        return
    session().require_operator("tenant delete")  # before anybody is asked
    confirm(f"Remove everything of {tenant} now, for good?", yes=yes)
    print_deletion(home().tenants.delete(tenant), as_json=as_json)


def _parse_grace(text: str) -> timedelta:
    """Read a time such as 30m, 12h or 7d; raises UsageError."""
    from kb_pipeline.errors import UsageError

    found = re.fullmatch(r"(\d{1,6})([mhd])", text)
    grace = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else None
    if grace is None or grace > _LONGEST_GRACE:
        raise UsageError(f"grace {text!r}: give a whole number of m, h or d, as in 12h or 7d; at most ten years")
    return grace


def _print(tenant: TenantRecord, *, as_json: bool) -> None:
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.rows import print_fields

    if as_json:
        print_json(tenant.as_json())
    else:
        print_fields({name: getattr(tenant, name) for name in tenant.as_json()})
