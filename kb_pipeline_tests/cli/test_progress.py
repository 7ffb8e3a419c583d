"""How far a refresh is: something from the first second, never more than all, rates that say something."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from kb_pipeline.cli import progress
from kb_pipeline.cli.progress import rate, show_progress
from kb_pipeline.control.runs.refreshes import RefreshRecord

STARTED = datetime.now(UTC) - timedelta(seconds=60)
ROW = RefreshRecord("run", "running", None, None, STARTED, None, {}, "fetch", 30, 20, STARTED)
REPORT: dict[str, Any] = {"in": 1234, "out": 1200, "seconds": 75.0}


def _shown(monkeypatch: pytest.MonkeyPatch, *rows: RefreshRecord, is_terminal: bool) -> str:
    written = io.StringIO()
    monkeypatch.setattr(progress, "err", Console(file=written, force_terminal=is_terminal, width=100, soft_wrap=True))
    with show_progress() as show:
        for row in rows:
            show(row)
    return written.getvalue()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_something_is_shown_before_anything_is_known(monkeypatch: pytest.MonkeyPatch, is_terminal: bool) -> None:
    assert "starting run" in _shown(monkeypatch, is_terminal=is_terminal)


def test_more_than_was_expected_is_never_more_than_all(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = _shown(monkeypatch, ROW, is_terminal=True)
    assert "30/30" in shown
    assert "30/20" not in shown


def test_without_a_terminal_a_stage_is_a_line_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    done = replace(ROW, stages={"fetch": REPORT}, stage=None)
    lines = _shown(monkeypatch, ROW, done, done, is_terminal=False).splitlines()
    assert lines == ["starting run", "fetch: 1,200 of 1,234 in 1 min 15 s"]


def test_a_long_stage_says_now_and_then_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_LINE_S", 0.0)
    lines = _shown(monkeypatch, ROW, replace(ROW, done=0, total=None), is_terminal=False).splitlines()
    assert re.fullmatch(r"fetch: 30 of 30, [12]?\d/min|fetch: 30 of 30, 30/min", lines[1])
    assert lines[::2] == ["starting run", "fetch: 0"]


@pytest.mark.parametrize(
    ("done", "seconds", "told"),
    [(0, 9.0, ""), (5, 0.0, ""), (1200, 10.0, "120/s"), (10, 60.0, "10/min"), (9, 9, "1/s")],
)
def test_a_rate_below_one_a_second_is_told_by_the_minute(done: int, seconds: float, told: str) -> None:
    assert rate(done, seconds) == told
