"""Every command in a pipe: no boxes, no `None`, no trace, whatever becomes of the reader."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from kb_pipeline.cli.app import app
from kb_pipeline_tests.published import Published

BOXES = re.compile("[─-╿]")
KB = "acme/docs"
READING = {
    "list": [], "status": [KB], "search": [KB, "apples"], "ask": [KB, "apples"],
    "documents": [KB], "page": [KB, "apples"], "failures": [KB],
    "explain": [KB, "http://127.0.0.1:1/x"], "versions": [KB], "diff": [KB, "1", "1"], "replay": [KB, "apples"],
    "show": [KB], "schema": [], "logs": [KB], "usage": [], "quota": ["acme"], "tenant list": [],
    "tenant show": ["acme"], "plan list": [], "plan show": ["default"], "key list": ["acme"],
    "secret list": ["acme"], "flag list": [], "operator-key list": [],
    "audit list": ["acme"], "audit verify": [], "doctor": [], "completion": ["bash"], "cancel": [KB],
    "extract": ["docs.yaml"], "init": ["notes", "-o", "-"], "export": [KB, "exported"], "retry": [KB],
    "build": [KB], "apply": ["docs.yaml"], "backup": ["backup"],
}  # fmt: skip
OTHERS = {
    "ui", "up", "serve", "mcp", "demo", "erase", "delete", "approve", "rollback", "restore", "tenant create",
    "tenant plan",
    "tenant suspend", "tenant resume", "tenant delete", "plan apply", "key create", "key revoke", "secret set",
    "operator-key create", "operator-key revoke",
    "secret delete", "secret rotate", "secret key", "flag set", "flag rollout", "flag clear",
}  # fmt: skip
"""They change things, or run on: their tests are elsewhere."""


def _commands() -> set[str]:
    root = typer.main.get_command(app)
    found = set()
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found |= {f"{name} {each}" for each in inner} if inner else {name}
    return found


def test_every_command_is_walked_or_named() -> None:
    assert READING.keys() | OTHERS == _commands()
    assert not READING.keys() & OTHERS


def test_no_command_prints_boxes_none_or_a_trace_into_a_pipe(published: Published) -> None:
    (published.kb.folder / "notes").mkdir()
    (published.kb.folder / "notes/a.md").write_text("# A\n\nSome text.\n")
    for name, arguments in READING.items():
        done = published.kb(*name.split(), *arguments)
        assert not BOXES.search(done.out), (name, done.out)
        assert not re.search(r"\bNone\b", done.out), (name, done.out)
        assert "Traceback" not in done.err, (name, done.err)
        assert "\x1b" not in done.out, name


@pytest.mark.parametrize(
    "line", ["list", f"documents {KB}", f"status {KB}", f"logs {KB}", "schema", "--help", "doctor"]
)
def test_a_reader_that_goes_away_is_no_fault(published: Published, line: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "kb_pipeline", *line.split()],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=published.kb.folder, env=os.environ,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()  # before anything was written
        told = child.stderr.read().decode()
        assert child.wait() == 1
    assert "Traceback" not in told
    assert "BrokenPipe" not in told


def test_pipelines_of_a_shell_work(published: Published) -> None:
    published.kb.apply(published.site, kb="wiki")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def shell(line: str) -> list[str]:
        done = subprocess.run(
            ["bash", "-c", line], cwd=published.kb.folder, env=environment, capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
        return done.stdout.splitlines()

    assert shell("kb list | cut -f1") == ["acme/docs", "acme/wiki"]
    assert len(shell(f"kb documents {KB} | head -n 2")) == 2
    assert shell(
        f"kb status {KB} --json | python -c 'import json, sys; print(json.load(sys.stdin)[\"live_version\"])'"
    ) == ["1"]
    assert shell("kb list --columns kb --state new | xargs -n 1 kb status | grep ^status") == ["status\tnew"]


@pytest.mark.parametrize("command", ["list", "apply a.yaml"])
def test_a_fault_of_the_environment_is_one_line(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("")
    source = "{name: s, type: files, root: /srv, paths: ['*.md']}"
    (tmp_path / "a.yaml").write_text(f"tenant: a\nkb: b\nsources: [{source}]\n")
    environment = os.environ | {"KB_HOME": str(tmp_path / "file/below")}
    done = subprocess.run(
        [sys.executable, "-m", "kb_pipeline", *command.split()],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith("kb: ")


def test_a_database_that_is_away_is_one_line(tmp_path: Path) -> None:
    environment = os.environ | {"KB_HOME": str(tmp_path), "KB_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    done = subprocess.run(
        [sys.executable, "-m", "kb_pipeline", "list"], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "the control plane cannot be used" in done.stderr
