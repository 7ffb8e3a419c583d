"""The program `kb`: its commands and what they have in common."""

from __future__ import annotations

from typing import Annotated

import typer

from kb_pipeline.cli.audit import audit_app
from kb_pipeline.cli.flags import flag_app
from kb_pipeline.cli.installation import backup, demo, doctor, restore, ui
from kb_pipeline.cli.kbs import apply, build, delete, explain, failures, retry, schema, show, status
from kb_pipeline.cli.keys import key_app
from kb_pipeline.cli.plans import plan_app
from kb_pipeline.cli.quota import quota, usage
from kb_pipeline.cli.read import diff, documents, export, extract, page, replay, search
from kb_pipeline.cli.secrets import secret_app
from kb_pipeline.cli.session import begin
from kb_pipeline.cli.tenants import tenant_app
from kb_pipeline.cli.versions import approve, erase, rollback, versions

app = typer.Typer(
    name="kb",
    help="Build and search knowledge bases: kb apply FILE, kb build TENANT/KB, kb search TENANT/KB 'question'.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for group, name in (
    (tenant_app, "tenant"),
    (plan_app, "plan"),
    (audit_app, "audit"),
    (flag_app, "flag"),
    (key_app, "key"),
    (secret_app, "secret"),
):
    app.add_typer(group, name=name)
for command in (
    quota, usage, schema, apply, show, build, status, search, documents, page, failures, explain, retry, versions,
    rollback, approve, diff, export, replay, erase, delete, backup, restore, extract, demo, ui, doctor,
):  # fmt: skip
    app.command()(command)


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
) -> None:
    begin(key)
