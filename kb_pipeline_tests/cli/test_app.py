"""The program as a whole: version, help in groups, completion."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from kb_pipeline.cli.app import app
from kb_pipeline.version import __version__
from kb_pipeline_tests.published import Published


def kb(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_version_is_printed() -> None:
    assert kb("--version") == f"kb_pipeline {__version__}\n"


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_the_help_lists_the_commands_of_a_first_day_first(option: str) -> None:
    told = kb(option)
    headings = [line for line in told.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == [
        "Options:", "First day:", "Content:", "Versions:", "KBs and runs:", "Tenants:", "Installation:",
    ]  # fmt: skip
    first_day = told.split("First day:")[1].split("Content:")[0]
    names = [line.split()[0] for line in first_day.splitlines() if line.startswith("  ") and line[2] != " "]
    assert names == ["demo", "init", "apply", "build", "search", "ask", "list", "status", "up", "ui"]


@pytest.mark.parametrize("command", [["search"], ["tenant"], ["tenant", "create"]])
def test_each_command_has_its_help_by_h_too(command: list[str]) -> None:
    assert kb(*command, "-h").startswith("Usage: ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_a_script_that_asks_kb(shell: str) -> None:
    assert "_KB_COMPLETE=complete_" in kb("completion", shell)


def test_commands_and_keys_of_kbs_are_completed(published: Published) -> None:
    assert _complete(published, "kb sta") == ["status"]
    assert _complete(published, "kb search acm") == ["acme/docs"]
    assert _complete(published, "kb search glo") == []
    assert _complete(published, "kb tenant sus") == ["suspend"]


def _complete(published: Published, typed: str) -> list[str]:
    """Return what bash is told for a line that is being typed."""
    asked = {"_KB_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", "from kb_pipeline.cli import main; main()"],
        cwd=published.kb.folder, env=os.environ | asked, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.split()
