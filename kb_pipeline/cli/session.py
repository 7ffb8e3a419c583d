"""What every command starts with: who calls, settings, the control plane, and the arguments that many share.

Without an API key the caller is the operator, who may do everything. With one it is a tenant's program: it may use the
commands that SCOPES lists and nothing else, on the KBs of its tenant; another tenant's are as if they did not exist.
Who shows a key need not be a user of this machine: a service may run `kb` for it. So a key reads and writes files only
beneath the folder that the command is run in, and opens no model that the operator did not name.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kb_pipeline.settings import load_api_key

if TYPE_CHECKING:
    from kb_pipeline.control.db.engine import Database
    from kb_pipeline.control.tenancy.api_keys import Caller, Scope
    from kb_pipeline.index.reader import VersionReader
    from kb_pipeline.model import KbKey
    from kb_pipeline.settings import Settings
    from kb_pipeline.store.kb_store import KbStore

_READING = "status search documents page failures versions diff export replay quota usage"
SCOPES: dict[str, Scope] = {
    **dict.fromkeys(_READING.split(), "read"),
    **dict.fromkeys(("build", "retry"), "build"),
    **dict.fromkeys(("apply", "rollback", "approve", "erase", "audit list"), "manage"),
}
"""The scope that each command takes of a key; those that are not here are the operator's."""

_GROUPS = {name.partition(" ")[0] for name in SCOPES if " " in name}
"""The groups of commands of which keys may use some; `enter_group` says which."""

_STDIN = Path("/dev/stdin")

_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


def enter(command: str | None, given: str | None) -> None:
    """Find out who calls before any command runs, and refuse what the caller's key does not allow.

    Raises:
        KeyRefused, TenantInactive: nobody may call with that key.
        NotAllowed: its holder may not use that command.
    """
    key = load_api_key() if given is None else given
    caller = None if given is None and not key else _authenticated(key)
    _caller.set(caller)
    if command not in _GROUPS:
        _allow(str(command))


def enter_group(ctx: typer.Context) -> None:
    """The same for one command of a group; raises NotAllowed."""
    _allow(f"{ctx.info_name} {ctx.invoked_subcommand}")


def _authenticated(key: str) -> Caller:
    from kb_pipeline.control.db.engine import Database
    from kb_pipeline.control.tenancy.api_keys import authenticate
    from kb_pipeline.settings import load_settings

    db = Database(load_settings().database_url)
    try:
        return authenticate(db, key)
    finally:
        db.dispose()


def _allow(command: str) -> None:
    from kb_pipeline.errors import NotAllowed

    if caller := _caller.get():
        if command not in SCOPES:
            raise NotAllowed(caller.id, f"kb {command} is for whoever runs this installation, not for API keys")
        caller.require(SCOPES[command])


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


def text(given: str | None) -> str | None:
    """An argument that is text; raises UsageError for bytes that are none: nothing is stored under such a name."""
    from kb_pipeline.errors import UsageError

    try:
        (given or "").encode()
    except UnicodeEncodeError:
        raise UsageError(f"{given!r} is not UTF-8 text") from None
    return given


def own_tenant(tenant: str | None) -> str | None:
    """The tenant as it was given, or the caller's where none was; raises UnknownTenant for another one."""
    from kb_pipeline.errors import UnknownTenant

    caller = _caller.get()
    if caller is None:
        return tenant
    if tenant and tenant != caller.tenant:
        raise UnknownTenant(tenant)  # whether there is one
    return caller.tenant


def own_path(path: Path) -> Path:
    """The path as it was given; raises NotAllowed where a key may not lead, whether or not there is something."""
    from kb_pipeline.errors import NotAllowed

    caller = _caller.get()
    if caller is not None and not _is_own_path(path):
        raise NotAllowed(
            caller.id,
            f"{path}: with a key, files lie beneath the folder that kb is run in, and outside of what is the "
            "installation's; what is to be read may also come on /dev/stdin",
        )
    return path


def own_paths(paths: list[Path]) -> list[Path]:
    """The same of several to read; what the caller hands over itself may be one of them."""
    return [path if path == _STDIN else own_path(path) for path in paths]


def _is_own_path(path: Path) -> bool:
    from kb_pipeline.settings import load_settings

    settings = load_settings()
    theirs = (settings.home, settings.data_dir, settings.secret_keys_file, settings.database_url_file)
    try:
        place = path.resolve()  # where links lead
    except (OSError, RuntimeError, ValueError):  # links in a circle, a NUL
        return False
    if str(path).startswith("~") or not place.is_relative_to(Path.cwd().resolve()):
        return False
    return not any(place.is_relative_to(each) for each in theirs if each is not None)


def is_operator() -> bool:
    """Whether the caller may do everything."""
    return _caller.get() is None


def require_own(tenant: str) -> None:
    """Raises NotAllowed for another tenant than the caller's."""
    from kb_pipeline.errors import NotAllowed

    caller = _caller.get()
    if caller is not None and tenant != caller.tenant:
        raise NotAllowed(caller.id, f"it is for KBs of tenant {caller.tenant}")


# Looked at while the arguments are read: no command can forget it.
KbArgument = Annotated[str, typer.Argument(metavar="KB", help="The KB: tenant/kb.", callback=own_kb)]
KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="The document's key: its URL.", callback=text)]
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
        from kb_pipeline.control.db.engine import Database
        from kb_pipeline.settings import load_settings

        self.settings: Settings = load_settings()
        if caller := _caller.get():
            self.settings = replace(self.settings, actor=caller.actor)
        configure_logging(self.settings.log_format)
        self.db: Database = Database(self.settings.database_url)

    def store(self, key: KbKey) -> KbStore:
        """The stored data of a KB."""
        from kb_pipeline.store.kb_store import KbStore
        from kb_pipeline.store.paths import KbPaths

        return KbStore(KbPaths(self.settings.data_dir, key))

    def version(self, key: KbKey, as_of: str | None) -> VersionReader:
        """The live version, or an earlier one, opened for reading."""
        from kb_pipeline.control.kbs.versions import manifest_as_of
        from kb_pipeline.index.reader import VersionReader

        return VersionReader(self.store(key), manifest_as_of(self.db, key, as_of))
