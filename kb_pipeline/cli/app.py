"""The program `kb`: its commands in groups, those of a first day first, and what they have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from kb_pipeline.cli.ask import ask
from kb_pipeline.cli.audit import audit_app
from kb_pipeline.cli.completion import completion
from kb_pipeline.cli.flags import flag_app
from kb_pipeline.cli.init import init
from kb_pipeline.cli.installation import backup, demo, doctor, restore, ui, up
from kb_pipeline.cli.kbs import apply, build, delete, explain, failures, retry, schema, show
from kb_pipeline.cli.keys import key_app, operator_key_app
from kb_pipeline.cli.mcp import mcp
from kb_pipeline.cli.plans import plan_app
from kb_pipeline.cli.quota import quota, usage
from kb_pipeline.cli.read import diff, documents, export, extract, page, replay, search
from kb_pipeline.cli.secrets import secret_app
from kb_pipeline.cli.serve import serve
from kb_pipeline.cli.session import begin
from kb_pipeline.cli.status import cancel, list_kbs, logs, status
from kb_pipeline.cli.tenants import tenant_app
from kb_pipeline.cli.versions import approve, erase, rollback, versions

_GROUPS: dict[str, tuple[Callable[..., Any] | tuple[str, Callable[..., Any]] | tuple[str, typer.Typer], ...]] = {
    "First day": (demo, init, apply, build, search, ask, ("list", list_kbs), status, up, ui),
    "Content": (documents, page, failures, explain, retry, erase),
    "Versions": (versions, diff, approve, rollback, export, replay),
    "KBs and runs": (show, schema, logs, cancel, delete, extract),
    "Tenants": (
        ("tenant", tenant_app), ("plan", plan_app), quota, usage, ("key", key_app), ("secret", secret_app),
        ("flag", flag_app), ("audit", audit_app),
    ),
    "Installation": (serve, mcp, ("operator-key", operator_key_app), doctor, backup, restore, completion),
}  # fmt: skip
"""By the heading in `kb --help`."""
_HELP_CHARS = 200
"""Of a command's line in the list."""


class GroupedHelp(TyperGroup):
    """Lists commands under the headings of their panels, also where no boxes are drawn."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - of the Click that Typer carries
        """Write one section of commands for each panel."""
        groups: dict[str, list[tuple[str, str]]] = {heading: [] for heading in _GROUPS}
        for name in self.list_commands(ctx):
            if (command := self.get_command(ctx, name)) is not None:
                heading = str(getattr(command, "rich_help_panel", None) or "Commands")
                groups.setdefault(heading, []).append((name, command.get_short_help_str(_HELP_CHARS)))
        for heading, listed in groups.items():
            with formatter.section(heading):
                formatter.write_dl(listed)


app = typer.Typer(
    name="kb",
    cls=GroupedHelp,
    rich_markup_mode="rich" if sys.stdout.isatty() else None,  # in a pipe, no boxes
    help="Build and search knowledge bases: kb init URL, kb apply FILE, kb build TENANT/KB, kb search TENANT/KB WORDS.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for panel, commands in _GROUPS.items():
    for command in commands:
        name, target = command if isinstance(command, tuple) else (None, command)
        if isinstance(target, typer.Typer):
            app.add_typer(target, name=name, rich_help_panel=panel)
        else:
            app.command(name, rich_help_panel=panel)(target)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        from kb_pipeline.version import __version__

        sys.stdout.write(f"kb_pipeline {__version__}\n")
        raise typer.Exit


@app.callback()
def _begin(
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            metavar="KEY",
            help="Run as this API key; KB_KEY and the file KB_KEY_FILE are not seen by others.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    del version
    begin(key)
