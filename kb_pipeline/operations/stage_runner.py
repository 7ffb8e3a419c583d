"""Runs a stage of a refresh with its progress, its report and the repair of damaged tables around it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from kb_pipeline.control.runs import refreshes
from kb_pipeline.errors import DamagedStore
from kb_pipeline.maintenance.repair import repair_heads
from kb_pipeline.model import ReportProgress, StageReport
from kb_pipeline.operations.run_context import RunContext

logger = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class StageRunner:
    """The stages of one run; what it repairs is in the report of every later stage."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._repaired: list[str] = []
        self._units: dict[str, str] = {}
        """By stage, the id of the unit of work under which the usage ledger counts its seconds."""

    def run(
        self,
        stage: str,
        work: Callable[[ReportProgress], StageReport],
        earlier: Sequence[Callable[[], StageReport]] = (),
    ) -> StageReport:
        """Do a stage's work and record its report; see `run_with_repair`."""
        report = self.run_with_repair(stage, work, earlier)
        self.record(report)
        return report

    def run_with_repair(
        self,
        stage: str,
        work: Callable[[ReportProgress], _Result],
        earlier: Sequence[Callable[[], StageReport]] = (),
    ) -> _Result:
        """Do a stage's work; if a stored table cannot be read, repair it and do the work once more.

        Args:
            stage: its name in reports and progress.
            work: what the stage does.
            earlier: run the stages that it builds on again, in order. Repair may roll a table back behind what the
                sources gave today.

        Raises:
            DamagedStore: nothing could be repaired.
            LeaseLost: another run took over.
        """
        context = self._context
        progress = refreshes.StageProgress(context.db, context.key, context.run_id, stage)
        self._units[stage] = f"{context.run_id}/{stage}/{time.time_ns():x}"
        try:
            return work(progress)
        except DamagedStore as error:
            repaired = repair_heads(context.store, context.live_manifest())
            if not repaired and stage != "index":  # the index may lack vectors that another KB's erasure took
                raise
            logger.warning("%s: %s; %s", context.key, error, "; ".join(repaired))
            self._repaired += repaired
        for run_again in earlier:
            run_again()
        return work(progress)

    def record(self, report: StageReport) -> None:
        """Record a stage's report, without what variables gave; raises LeaseLost if another run took over.

        The lease is checked although the stage may have written nothing: a writer that was replaced reports nothing.
        """
        context = self._context
        context.check_lease()
        if self._repaired:
            report.extra["repaired"] = list(self._repaired)
        report.extra = context.spec.redact(report.extra)
        refreshes.finish_stage(context.db, context.key, context.run_id, report, self._units[report.stage])

    def note_repairs(self, repaired: Sequence[str]) -> None:
        """Add repairs made outside of `run_with_repair` to the reports from now on."""
        self._repaired += repaired
