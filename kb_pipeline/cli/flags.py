"""`kb flag`: choices that the operator makes while everything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kb_pipeline.cli.session import JsonOption, Session

if TYPE_CHECKING:
    from kb_pipeline.control.flags.overrides import FlagRecord, Scope
    from kb_pipeline.model import KbKey

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
    from kb_pipeline.cli.output import print_json, print_table
    from kb_pipeline.control.flags.overrides import list_states
    from kb_pipeline.control.flags.provider import evaluate_flags
    from kb_pipeline.control.kbs.catalog import get_kb

    session = Session()
    choices = evaluate_flags(session.db, get_kb(session.db, _key(kb)).key) if kb else []
    states = [] if kb else list_states(session.db)
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
    from kb_pipeline.control.flags.overrides import set_variant

    session = Session()
    set_variant(session.db, name, variant, _scope(tenant, kb), session.settings.actor)
    _show(session, name, as_json=as_json)


@flag_app.command()
def rollout(
    name: Name,
    shares: Annotated[list[str], typer.Argument(metavar="VARIANT=PERCENT...", help="As in recall=10.")],
    as_json: JsonOption = False,
) -> None:
    """Give a variant to a percentage of the KBs; raised later, it keeps those that have it."""
    from kb_pipeline.control.flags.overrides import set_rollout

    session = Session()
    set_rollout(session.db, name, [_share(name, share) for share in shares], session.settings.actor)
    _show(session, name, as_json=as_json)


@flag_app.command()
def clear(name: Name, tenant: TenantOption = None, kb: KbOption = None, as_json: JsonOption = False) -> None:
    """Take back what is set for a KB, a tenant or (without either) everybody, with the rollout."""
    from kb_pipeline.control.flags.overrides import clear_flag

    session = Session()
    clear_flag(session.db, name, _scope(tenant, kb), session.settings.actor)
    _show(session, name, as_json=as_json)


def _scope(tenant: str | None, kb: str | None) -> Scope:
    from kb_pipeline.control.flags.overrides import EVERYBODY, Scope
    from kb_pipeline.errors import UsageError
    from kb_pipeline.model import check_slug

    if tenant is not None and kb is not None:
        raise UsageError("give --tenant or --kb, not both: a KB's key names its tenant")
    if kb is not None:
        key = _key(kb)
        return Scope(key.tenant, key.kb)
    return Scope(check_slug(tenant)) if tenant is not None else EVERYBODY


def _share(name: str, written: str) -> tuple[str, float]:
    from kb_pipeline.errors import InvalidRollout

    variant, _, percent = written.partition("=")
    try:
        return variant, float(percent)
    except ValueError:
        raise InvalidRollout(name, f"{written!r} is no VARIANT=PERCENT") from None


def _key(text: str) -> KbKey:
    from kb_pipeline.model import KbKey

    return KbKey.parse(text)


def _show(session: Session, name: str, *, as_json: bool) -> None:
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.control.flags.overrides import list_states

    (state,) = (state for state in list_states(session.db) if state.flag == name)
    if as_json:
        print_json(state.as_json())
    else:
        _print_state(state)


def _print_state(state: FlagRecord) -> None:
    from kb_pipeline.cli.output import out

    out.print(f"{state.flag}: {state.about}", markup=False, style="bold")
    said = {
        "variants": ", ".join(state.variants),
        "default": state.default,
        "rollout": ", ".join(f"{variant}={percent:g}%" for variant, percent in state.rollout.items()),
        "overrides": ", ".join(f"{scope}={variant}" for scope, variant in state.overrides.items()),
    }
    for name, value in said.items():
        out.print(f"{name:<10} {value}".rstrip(), markup=False)
