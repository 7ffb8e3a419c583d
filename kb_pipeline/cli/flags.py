"""`kb flag`: choices that the operator makes while everything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kb_pipeline.cli.session import JsonOption, home

if TYPE_CHECKING:
    from kb_pipeline.control.flags.overrides import FlagRecord

flag_app = typer.Typer(help="List flags; set them for everybody, a share, a tenant or a KB.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The flag, as `kb flag list` shows it.")]
TenantOption = Annotated[str | None, typer.Option("--tenant", metavar="TENANT", help="For that tenant's KBs.")]
KbOption = Annotated[str | None, typer.Option("--kb", metavar="KB", help="For that KB: tenant/kb.")]


@flag_app.command("list")
def list_them(
    kb: Annotated[str | None, typer.Option("--kb", metavar="KB", help="What that KB has, and why.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the flags with all that is set, or what they are for one KB and why."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.rows import print_table

    flags = home().flags
    choices = flags.of_kb(kb) if kb else []
    states = [] if kb else flags.list()
    if as_json:
        print_json([row.as_json() for row in (*choices, *states)])
    elif kb:
        columns = ["flag", "variant", "reason", "set_for"]
        print_table(columns, ([getattr(choice, name) for name in columns] for choice in choices))
    else:
        for state in states:
            _print_state(state)


@flag_app.command("set")
def set_it(
    name: Name,
    variant: Annotated[str, typer.Argument(metavar="VARIANT", help="One of the flag's variants.")],
    tenant: TenantOption = None,
    kb: KbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a KB, a tenant or (without either) everybody a variant; refreshes go by it from the next one on."""
    _show(home().flags.set(name, variant, tenant=tenant, kb=kb), as_json=as_json)


@flag_app.command()
def rollout(
    name: Name,
    shares: Annotated[list[str], typer.Argument(metavar="VARIANT=PERCENT...", help="As in recall=10.")],
    as_json: JsonOption = False,
) -> None:
    """Give a variant to a percentage of the KBs; raised later, it keeps those that have it."""
    _show(home().flags.roll_out(name, [_share(name, share) for share in shares]), as_json=as_json)


@flag_app.command()
def clear(name: Name, tenant: TenantOption = None, kb: KbOption = None, as_json: JsonOption = False) -> None:
    """Take back what is set for a KB, a tenant or (without either) everybody, with the rollout."""
    _show(home().flags.clear(name, tenant=tenant, kb=kb), as_json=as_json)


def _share(name: str, written: str) -> tuple[str, float]:
    from kb_pipeline.errors import InvalidRollout

    variant, _, percent = written.partition("=")
    try:
        return variant, float(percent)
    except ValueError:
        raise InvalidRollout(name, f"{written!r} is no VARIANT=PERCENT") from None


def _show(state: FlagRecord, *, as_json: bool) -> None:
    from kb_pipeline.cli.output import print_json

    print_json(state.as_json()) if as_json else _print_state(state)


def _print_state(state: FlagRecord) -> None:
    from kb_pipeline.cli.terminal import out

    out.print(f"{state.flag}: {state.about}", markup=False, style="bold")
    fields = {
        "variants": ", ".join(state.variants),
        "default": state.default,
        "rollout": ", ".join(f"{variant}={percent:g}%" for variant, percent in state.rollout.items()),
        "overrides": ", ".join(f"{scope}={variant}" for scope, variant in state.overrides.items()),
    }
    for name, value in fields.items():
        out.print(f"{name:<10} {value}".rstrip(), markup=False)
