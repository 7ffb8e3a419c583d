"""`kb secret`: values that a tenant's KB files name and that are never shown."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from kb_pipeline.cli.session import JsonOption, home, require_utf8

secret_app = typer.Typer(help="Set, list and delete the secrets of a tenant; rotate their keys.", no_args_is_help=True)

Tenant = Annotated[str, typer.Argument(metavar="TENANT", help="Whose secrets.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="As in ${NAME} of its KB files.", callback=require_utf8)]


@secret_app.command("set")
def set_it(tenant: Tenant, name: Name, as_json: JsonOption = False) -> None:
    """Store a value, given on stdin or at a prompt: arguments are seen by others and kept by shells."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.terminal import out

    home().secrets.set(tenant, name, _read_value(name))
    if as_json:
        print_json({"tenant": tenant, "name": name, "action": "set"})
    else:
        out.print(f"secret {name} of {tenant} is set", markup=False)


@secret_app.command("list")
def list_them(tenant: Tenant, as_json: JsonOption = False) -> None:
    """List the names, and when and by whom each was set; values are never shown."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.rows import print_table

    rows = home().secrets.list(tenant)
    if as_json:
        print_json([row.as_json() for row in rows])
        return
    print_table(["name", "set at", "by"], ([row.name, row.updated_at.isoformat()[:16], row.updated_by] for row in rows))


@secret_app.command()
def delete(tenant: Tenant, name: Name, as_json: JsonOption = False) -> None:
    """Forget a value; KBs whose files name it cannot be refreshed until it is set again."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.terminal import out

    home().secrets.delete(tenant, name)
    if as_json:
        print_json({"tenant": tenant, "name": name, "action": "deleted"})
    else:
        out.print(f"secret {name} of {tenant} is forgotten", markup=False)


@secret_app.command()
def rotate(as_json: JsonOption = False) -> None:
    """Encrypt every tenant's secrets with the newest key; exit status 1 if any cannot be decrypted."""
    from kb_pipeline.cli.output import print_json, warn
    from kb_pipeline.cli.terminal import out

    rotation = home().secrets.rotate()
    if as_json:
        print_json(rotation.as_json())
    else:
        out.print(f"{rotation.rotated} secrets are encrypted with the newest key")
        for lost in rotation.lost:
            warn(f"{lost} cannot be decrypted: its key is not here; add it, or set the secret again")
    raise typer.Exit(1 if rotation.lost else 0)


@secret_app.command()
def key(as_json: JsonOption = False) -> None:
    """Print a new key: put it first in KB_SECRET_KEYS, then kb secret rotate, then take the others out."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.terminal import out

    made = home().secrets.new_key()
    if as_json:
        print_json({"key": made})
    else:
        out.print(made, markup=False)


def _read_value(name: str) -> str:
    """Return the value without the newline that `echo` adds."""
    if sys.stdin.isatty():
        return str(typer.prompt(name, hide_input=True))
    return sys.stdin.read().removesuffix("\n").removesuffix("\r")
