"""`kb plan`: what the tenants of this installation may use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from kb_pipeline.cli.session import JsonOption, home

plan_app = typer.Typer(help="Apply plans from their files, and look at them.", no_args_is_help=True)


@plan_app.command()
def apply(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Plan files.")], as_json: JsonOption = False
) -> None:
    """Create or change plans; nothing is applied unless every file is valid."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.terminal import out

    applied = home().plans.apply(*files)
    if as_json:
        print_json([{"plan": plan, "action": action} for plan, action in applied])
        return
    for plan, action in applied:
        out.print(f"{plan}: {action}")


@plan_app.command("list")
def list_them(as_json: JsonOption = False) -> None:
    """List the plans; what they do not limit is unlimited."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.rows import print_table

    plans = home().plans.list()
    if as_json:
        print_json([plan.as_json() for plan in plans])
        return
    print_table(["plan", "tenants", "limits"], ([p.plan, p.tenants, _told(p.limits)] for p in plans))


@plan_app.command()
def show(
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="The plan's name.")], as_json: JsonOption = False
) -> None:
    """Show one plan: its limits and prices."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.rows import print_fields

    shown = home().plans.get(plan)
    if as_json:
        print_json(shown.as_json())
        return
    named = {"plan": shown.plan, "tenants": shown.tenants, "updated_at": shown.updated_at}
    prices = {f"price of {model}": f"{price:g} a million tokens" for model, price in shown.prices.items()}
    print_fields(named | dict(shown.limits) | prices)


def _told(limits: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in limits.items()) or "none"
