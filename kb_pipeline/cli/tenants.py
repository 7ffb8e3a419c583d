"""`kb tenant`: the customers of this installation."""

from __future__ import annotations

from typing import Annotated

import typer

from kb_pipeline.cli.session import JsonOption, Session, YesOption

tenant_app = typer.Typer(help="Create, look at, suspend, resume and delete tenants.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's name, as in its KBs' keys.")]


@tenant_app.command()
def create(
    tenant: Name,
    plan: Annotated[str, typer.Option(help="The plan that limits it.")] = "default",
    reuse_key: Annotated[bool, typer.Option("--reuse-key", help="Take the name of a deleted tenant.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Add a tenant; applying a KB file of a new tenant does so too, with the plan `default`."""
    from kb_pipeline.control.tenancy.tenants import create_tenant

    session = Session()
    create_tenant(session.db, tenant, plan, session.settings.actor, reuse=reuse_key)
    _show(session, tenant, as_json=as_json)


@tenant_app.command("list")
def list_them(as_json: JsonOption = False) -> None:
    """List the tenants."""
    from kb_pipeline.cli.output import print_json, print_table
    from kb_pipeline.control.tenancy.tenants import list_tenants

    session = Session()
    rows = list(list_tenants(session.db))
    if as_json:
        print_json([row.as_json() for row in rows])
        return
    columns = ["tenant", "plan", "status", "kbs", "reason"]
    print_table(columns, ([getattr(row, name) for name in columns] for row in rows))


@tenant_app.command()
def show(tenant: Name, as_json: JsonOption = False) -> None:
    """Show one tenant: its plan, whether it is active, since when."""
    _show(Session(), tenant, as_json=as_json)


@tenant_app.command()
def plan(
    tenant: Name,
    name: Annotated[str, typer.Argument(metavar="PLAN", help="The plan's name.")],
    as_json: JsonOption = False,
) -> None:
    """Give a tenant another plan."""
    from kb_pipeline.control.tenancy.tenants import set_plan

    session = Session()
    set_plan(session.db, tenant, name, session.settings.actor)
    _show(session, tenant, as_json=as_json)


@tenant_app.command()
def suspend(
    tenant: Name,
    reason: Annotated[str, typer.Option(help="Why; whoever is refused is told.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Refuse a tenant's refreshes and searches from now on; nothing of it is lost."""
    _set_status(tenant, "suspended", reason, as_json=as_json)


@tenant_app.command()
def resume(tenant: Name, as_json: JsonOption = False) -> None:
    """Let a tenant go on."""
    _set_status(tenant, "active", "", as_json=as_json)


@tenant_app.command()
def delete(
    tenant: Name,
    grace: Annotated[str, typer.Option(help="How long it can be taken back, as in 12h or 7d.")] = "7d",
    now: Annotated[bool, typer.Option("--now", help="Remove it at once; nothing can be taken back.")] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Refuse a tenant's runs and searches at once; after the grace, remove everything of it and keep a receipt."""
    from kb_pipeline.cli.removal import delete_tenant_now, parse_grace, print_removal
    from kb_pipeline.cli.session import confirm
    from kb_pipeline.control.tenancy.tenants import schedule_deletion

    session = Session()
    if not now:
        schedule_deletion(session.db, tenant, parse_grace(grace), session.settings.actor)
        _show(session, tenant, as_json=as_json)
        return
    confirm(f"Remove everything of {tenant} now, for good?", yes=yes)
    print_removal(delete_tenant_now(session, tenant), as_json=as_json)


def _set_status(tenant: str, status: str, reason: str, *, as_json: bool) -> None:
    from kb_pipeline.control.tenancy.tenants import set_status

    session = Session()
    set_status(session.db, tenant, status, reason, session.settings.actor)
    _show(session, tenant, as_json=as_json)


def _show(session: Session, tenant: str, *, as_json: bool) -> None:
    from kb_pipeline.cli.output import out, print_json
    from kb_pipeline.control.tenancy.tenants import get_tenant

    described = get_tenant(session.db, tenant).as_json()
    if as_json:
        print_json(described)
        return
    for name, value in described.items():
        out.print(f"{name:<11} {value if value is not None else ''}", markup=False)
