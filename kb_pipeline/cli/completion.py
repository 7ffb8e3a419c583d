"""`kb completion`: completes commands, options and names of KBs in a shell."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Literal

import typer

VARIABLE = "_KB_COMPLETE"
"""In the environment of a command that is to complete what is typed, as Click calls it."""


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print what makes a shell complete `kb`: eval "$(kb completion bash)", or in fish kb completion fish | source."""
    from typer._completion_shared import get_completion_script

    sys.stdout.write(get_completion_script(prog_name="kb", complete_var=VARIABLE, shell=shell) + "\n")


def prepare() -> None:
    """Make ready to answer a shell, if it is one that asks."""
    if VARIABLE in os.environ:
        from typer._completion_classes import completion_init

        completion_init()


def complete_kb(incomplete: str) -> list[str]:
    """Return the keys of KBs that begin so; none when they cannot be read, since a shell shows no error."""
    from kb_pipeline.errors import KbError

    try:
        import kb_pipeline
        from kb_pipeline.settings import load_api_key

        with kb_pipeline.open(api_key=load_api_key() or None) as home:
            return [str(kb.key) for kb in home.kbs() if str(kb.key).startswith(incomplete)]
    except (KbError, OSError):
        return []
