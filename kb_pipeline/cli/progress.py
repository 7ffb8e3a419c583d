"""Shows how far a refresh is, on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kb_pipeline.cli.output import err
from kb_pipeline.control.runs.refreshes import RefreshRecord
from kb_pipeline.operations.launch import ProgressListener

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@contextmanager
def show_progress() -> Iterator[ProgressListener]:
    """Return a listener that shows how far a refresh is: bars on a terminal, else a line when a stage ends."""
    if not err.is_terminal:
        yield _Lines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<6}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=err) as progress:
        yield _Bars(progress)


class _Lines:
    """Prints one line when a stage ends."""

    def __init__(self) -> None:
        self._shown: set[str] = set()

    def __call__(self, refresh: RefreshRecord) -> None:
        for stage, report in refresh.stages.items():
            if stage not in self._shown:
                self._shown.add(stage)
                err.print(f"{stage}: {report['out']} of {report['in']} in {report['seconds']:.1f} s")


class _Bars:
    """Shows one bar for each stage: done/total, rate, time left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def __call__(self, refresh: RefreshRecord) -> None:
        for stage, report in refresh.stages.items():
            self._show(stage, report["in"], max(report["in"], 1), report["seconds"])
        if refresh.stage and refresh.stage_started_at and refresh.stage not in refresh.stages:
            seconds = time.time() - refresh.stage_started_at.timestamp()
            self._show(refresh.stage, refresh.done, refresh.total, seconds)

    def _show(self, stage: str, done: int, total: int | None, seconds: float) -> None:
        if stage not in self._bars:
            self._bars[stage] = self._progress.add_task(stage, total=None, rate="")
        rate = f"{done / seconds:,.0f}/s" if seconds > 0 else ""
        self._progress.update(self._bars[stage], completed=done, total=total, rate=rate)
