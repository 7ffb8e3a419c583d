"""What every command starts with: settings, the control plane, and the arguments that many share."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from kb_pipeline.control.database import Database
    from kb_pipeline.model import KbKey
    from kb_pipeline.settings import Settings
    from kb_pipeline.tables import KbStore

KbArgument = Annotated[str, typer.Argument(metavar="KB", help="The KB: tenant/kb.")]
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
