"""What a run shows of itself: warnings by the reports of its stages."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from kb_pipeline.control.coordination.leases import acquire_lease
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs.catalog import get_kb
from kb_pipeline.control.runs.refreshes import begin_refresh, finish_stage
from kb_pipeline.model import KbKey, StageReport
from kb_pipeline.operations.run_context import RunContext
from kb_pipeline.operations.run_summary import RunSummary, language_warnings
from kb_pipeline.settings import Settings
from kb_pipeline_tests.control.planes import apply

DOCS = KbKey("acme", "docs")


@pytest.fixture
def context(db: Database, tmp_path: Path) -> RunContext:
    """A run that has begun."""
    settings = Settings(tmp_path, "", tmp_path / "data", "", (), "text", actor="tester")
    apply(db, DOCS)
    lease = acquire_lease(db, DOCS, "run-1")
    begin_refresh(db, DOCS, "run-1")
    return RunContext(settings, db, lease, "run-1", get_kb(db, DOCS).read_spec(settings))


def report(context: RunContext, stage: StageReport) -> list[str]:
    finish_stage(context.db, context.key, context.run_id, stage, f"run-1/{stage.stage}")
    return RunSummary(context).warnings()


def test_a_run_without_problems_warns_of_nothing(context: RunContext) -> None:
    assert report(context, StageReport("fetch", entered=3, passed=3)) == []


def test_failures_are_counted_with_their_three_most_common_reasons(context: RunContext) -> None:
    failed = Counter({"timeout": 5, "server-error": 3, "dns": 2, "tls": 1})
    (warning,) = report(context, StageReport("fetch", entered=11, failed=failed))
    assert warning == "11 pages failed (timeout 5, server-error 3, dns 2); see: kb failures acme/docs"


def test_pages_that_a_quota_left_out_did_not_fail(context: RunContext) -> None:
    (warning,) = report(context, StageReport("fetch", entered=4, failed=Counter(quota=4)))
    assert warning.startswith("4 pages were not asked for: ")


def test_a_repair_is_told_once_however_many_stages_report_it(context: RunContext) -> None:
    report(context, StageReport("clean", extra={"repaired": ["documents"]}))
    warnings = report(context, StageReport("chunk", extra={"repaired": ["documents"]}))
    assert warnings == ["damaged data was set aside and made again: documents"]


def test_languages_that_the_model_does_not_know_are_named_without_undetermined_ones() -> None:
    (warning,) = language_warnings("all-MiniLM-L6-v2", ["en", "und", "de", "fr"])
    assert "does not know de, fr:" in warning
    assert language_warnings("multilingual-e5-small", ["en", "de"]) == []
