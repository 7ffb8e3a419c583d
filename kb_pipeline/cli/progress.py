"""Shows how far a refresh is, on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kb_pipeline.cli.terminal import err
from kb_pipeline.control.runs.refreshes import RefreshRecord
from kb_pipeline.operations.launch import ProgressListener
from kb_pipeline.units import span

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_LINE_S = 30.0
"""Without a terminal, how often a long stage says how far it is."""
_STARTING = "starting run"


@contextmanager
def show_progress() -> Iterator[ProgressListener]:
    """Return a listener that shows how far a refresh is: bars on a terminal, else lines; something at once."""
    if not err.is_terminal:
        err.print(_STARTING)
        yield _Lines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=err) as progress:
        yield _Bars(progress)


class _Lines:
    """Prints one line when a stage ends, and now and then how far it is."""

    def __init__(self) -> None:
        self._shown: set[str] = set()
        self._next = time.monotonic() + _LINE_S

    def __call__(self, refresh: RefreshRecord) -> None:
        for stage, report in refresh.stages.items():
            if stage not in self._shown:
                self._shown.add(stage)
                err.print(f"{stage}: {report['out']:,} of {report['in']:,} in {span(report['seconds'])}")
        if refresh.stage and refresh.stage not in self._shown and time.monotonic() >= self._next:
            self._next = time.monotonic() + _LINE_S
            total = f" of {max(refresh.total, refresh.done):,}" if refresh.total is not None else ""
            pace = rate(refresh.done, _seconds(refresh))
            err.print(f"{refresh.stage}: {refresh.done:,}{total}{f', {pace}' if pace else ''}")


class _Bars:
    """Shows one bar for each stage: done/total, rate, time left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}
        self._start: TaskID | None = progress.add_task(_STARTING, total=None, rate="")

    def __call__(self, refresh: RefreshRecord) -> None:
        for stage, report in refresh.stages.items():
            self._show(stage, report["in"], max(report["in"], 1), report["seconds"])
        if refresh.stage and refresh.stage not in refresh.stages:
            self._show(refresh.stage, refresh.done, refresh.total, _seconds(refresh))

    def _show(self, stage: str, done: int, total: int | None, seconds: float) -> None:
        if self._start is not None:
            self._progress.remove_task(self._start)
            self._start = None
        if stage not in self._bars:
            self._bars[stage] = self._progress.add_task(stage, total=None, rate="")
        whole = None if total is None else max(total, done)  # what is known of it may lag behind
        self._progress.update(self._bars[stage], completed=done, total=whole, rate=rate(done, seconds))


def rate(done: int, seconds: float) -> str:
    """Return how many are done in a second, or in a minute where it is less than one."""
    if seconds <= 0 or not done:
        return ""
    per_second = done / seconds
    return f"{per_second:,.0f}/s" if per_second >= 1 else f"{per_second * 60:,.0f}/min"


def _seconds(refresh: RefreshRecord) -> float:
    return time.time() - refresh.stage_started_at.timestamp() if refresh.stage_started_at else 0.0
