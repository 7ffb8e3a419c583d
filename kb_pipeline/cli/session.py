"""What every command starts with: who calls, settings, the control plane, and the arguments that many share.

Without an API key the caller is the operator, who may do everything. With one it is a tenant's program: it may use the
commands that SCOPES lists and nothing else, on the KBs of its tenant; another tenant's are as if they did not exist.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kb_pipeline.settings import load_api_key

if TYPE_CHECKING:
    from kb_pipeline.control.api_keys import Caller, Scope
    from kb_pipeline.control.database import Database
    from kb_pipeline.model import KbKey
    from kb_pipeline.settings import Settings
    from kb_pipeline.tables import KbStore

SCOPES: dict[str, Scope] = {
    **dict.fromkeys(
        ("status", "search", "documents", "page", "failures", "versions", "diff", "export", "replay"), "read"
    ),
    **dict.fromkeys(("build", "retry"), "build"),
    **dict.fromkeys(("apply", "rollback", "approve", "erase"), "manage"),
}
"""The scope that each command takes of a key; those that are not here are the operator's."""

_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


def enter(command: str | None, given: str | None) -> None:
    """Find out who calls before any command runs, and refuse what the caller's key does not allow.

    Raises:
        KeyRefused, TenantInactive: nobody may call with that key.
        NotAllowed: its holder may not use that command.
    """
    key = load_api_key() if given is None else given
    caller = None if given is None and not key else _authenticated(command, key)
    _caller.set(caller)


def _authenticated(command: str | None, key: str) -> Caller:
    from kb_pipeline.control.api_keys import authenticate
    from kb_pipeline.control.database import Database
    from kb_pipeline.errors import NotAllowed
    from kb_pipeline.settings import load_settings

    db = Database(load_settings().database_url)
    try:
        caller = authenticate(db, key)
    finally:
        db.dispose()
    if command not in SCOPES:
        raise NotAllowed(caller.id, f"kb {command} is for whoever runs this installation, not for API keys")
    caller.require(SCOPES[command])
    return caller


def require_scope(scope: Scope) -> None:
    """For what takes more than its command; raises NotAllowed."""
    if caller := _caller.get():
        caller.require(scope)


def own_kb(kb: str) -> str:
    """The KB's key as it was given; raises InvalidKey, and UnknownKb for that of another tenant."""
    from kb_pipeline.errors import UnknownKb
    from kb_pipeline.model import KbKey

    key, caller = KbKey.parse(kb), _caller.get()
    if caller is not None and key.tenant != caller.tenant:
        raise UnknownKb(key)  # whether there is one
    return kb


def require_own(tenant: str) -> None:
    """Raises NotAllowed for another tenant than the caller's."""
    from kb_pipeline.errors import NotAllowed

    caller = _caller.get()
    if caller is not None and tenant != caller.tenant:
        raise NotAllowed(caller.id, f"it is for KBs of tenant {caller.tenant}")


# Looked at while the arguments are read: no command can forget it.
KbArgument = Annotated[str, typer.Argument(metavar="KB", help="The KB: tenant/kb.", callback=own_kb)]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable JSON on stdout.")]


def confirm(question: str, *, yes: bool) -> None:
    """Go on only if told to; raises UsageError where nobody can be asked."""
    from kb_pipeline.errors import UsageError

    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{question} Say so with --yes")
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)


class Session:
    """Settings and control plane of one command."""

    def __init__(self) -> None:
        from kb_pipeline.cli.output import configure_logging
        from kb_pipeline.control.database import Database
        from kb_pipeline.settings import load_settings

        self.settings: Settings = load_settings()
        if caller := _caller.get():
            self.settings = replace(self.settings, actor=caller.actor)
        configure_logging(self.settings.log_format)
        self.db: Database = Database(self.settings.database_url)

    def store(self, key: KbKey) -> KbStore:
        """The stored data of a KB."""
        from kb_pipeline.storage import KbPaths
        from kb_pipeline.tables import KbStore

        return KbStore(KbPaths(self.settings.data_dir, key))

    def manifest(self, key: KbKey, as_of: str | None) -> dict[str, Any]:
        """The manifest of the live version, or an earlier one."""
        from kb_pipeline.control.versions import manifest_as_of

        return manifest_as_of(self.db, key, as_of)
