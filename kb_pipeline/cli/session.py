"""What every command starts with: the installation, opened for the caller, and the arguments that many share."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from functools import cached_property
from typing import TYPE_CHECKING, Annotated

import typer

from kb_pipeline.cli.completion import complete_kb
from kb_pipeline.settings import load_api_key

if TYPE_CHECKING:
    from kb_pipeline.installation import Installation, Kb
    from kb_pipeline.settings import Settings


class Session:
    """The installation of one command, opened when it is first needed."""

    def __init__(self, api_key: str | None) -> None:
        self._api_key = api_key

    @property
    def api_key(self) -> str | None:
        """The key that the command was given; None for the operator."""
        return self._api_key

    @cached_property
    def home(self) -> Installation:
        """The installation, opened for the caller.

        Raises:
            KeyRefused, TenantInactive: the API key is not valid, or its tenant is not active.
        """
        import kb_pipeline

        return kb_pipeline.open(settings=self.settings, api_key=self._api_key)

    @cached_property
    def settings(self) -> Settings:
        """The settings from the environment; reading them configures logging."""
        from kb_pipeline.log_lines import configure_logging
        from kb_pipeline.settings import load_settings

        settings = load_settings()
        configure_logging(settings.log_format)
        return settings

    def require_operator(self, operation: str) -> None:
        """Raise NotAllowed or KeyRefused if the command was given an API key; needs no installation without one."""
        from kb_pipeline.installation import require_operator

        if self._api_key is not None:
            require_operator(operation, self._api_key)


_session: ContextVar[Session] = ContextVar("session")


def begin(given_key: str | None) -> None:
    """Begin a command's session with the API key of `--key`, or else of the environment."""
    _session.set(Session(given_key if given_key is not None else load_api_key() or None))


def session() -> Session:
    """Return the session of the command that runs."""
    return _session.get()


def home() -> Installation:
    """Return the installation, opened for the caller."""
    return session().home


def open_kb(key: str) -> Kb:
    """Return the KB of that key; raises InvalidKey or UnknownKb."""
    return home().kb(key)


def require_utf8(given: str | None) -> str | None:
    """Return an argument that is UTF-8 text; raises UsageError for other bytes, which no stored name can be."""
    from kb_pipeline.errors import UsageError

    try:
        (given or "").encode()
    except UnicodeEncodeError:
        raise UsageError(f"{given!r} is not UTF-8 text") from None
    return given


def require_all_utf8(given: list[str] | None) -> list[str] | None:
    """Return arguments that are UTF-8 text; see `require_utf8`."""
    for each in given or ():
        require_utf8(each)
    return given


def kb_key(given: str) -> str:
    """Return an argument that names a KB; raises InvalidKey."""
    from kb_pipeline.model import KbKey

    return str(KbKey.parse(given))


KbArgument = Annotated[
    str, typer.Argument(metavar="KB", help="The KB: tenant/kb.", callback=kb_key, autocompletion=complete_kb)
]
KeyArgument = Annotated[
    str,
    typer.Argument(
        metavar="KEY", help="The document: its URL or key, or a part of it or its title.", callback=require_utf8
    ),
]
ExactKeyArgument = Annotated[
    str, typer.Argument(metavar="KEY", help="The document's key: its whole URL.", callback=require_utf8)
]
AsOf = Annotated[str | None, typer.Option("--as-of", metavar="VERSION|TIME", help="Read an earlier version.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable JSON on stdout.")]


def confirm(question: str, *, yes: bool) -> None:
    """Ask whether to go on, and end the command if not; raises UsageError if there is no terminal to ask on."""
    from kb_pipeline.errors import UsageError

    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{question} Say so with --yes")
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)
