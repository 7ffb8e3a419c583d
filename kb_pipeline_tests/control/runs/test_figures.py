"""What monitoring is told: every KB up to a number, those that are not well first, and the rest in one sum."""

from __future__ import annotations

from collections import Counter

import pytest

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.runs import figures, refreshes
from kb_pipeline.control.runs.figures import OTHER, read_figures
from kb_pipeline.control.runs.requests import request_run
from kb_pipeline.model import KbKey, StageReport
from kb_pipeline_tests.control.planes import ACME, GLOBEX, apply, publish


def refreshed(db: Database, key: KbKey, run: str, status: refreshes.RefreshStatus = "ready") -> None:
    apply(db, key)
    refreshes.begin_refresh(db, key, run)
    report = StageReport("fetch", entered=3, passed=2, rejected=Counter(robots=1), seconds=1.5)
    refreshes.finish_stage(db, key, run, report, f"unit/{run}")
    if status == "ready":
        publish(db, key, run)
    refreshes.end_refresh(db, key, run, status)


def test_a_kb_is_told_with_the_stages_of_the_newest_refresh_that_ended(db: Database) -> None:
    refreshed(db, ACME, "run-1")
    refreshes.begin_refresh(db, ACME, "run-2")
    (kb,) = read_figures(db).kbs
    assert (kb.tenant, kb.kb, kb.held, kb.version_age_s is not None) == ("acme", "docs", 0, True)
    assert kb.stages["fetch"]["out"] == 2
    assert read_figures(db).states == {"interrupted": 1}, "it claims to run and holds no lease"


def test_a_kb_that_was_never_refreshed_has_no_ages(db: Database) -> None:
    apply(db, ACME)
    (kb,) = read_figures(db).kbs
    assert (kb.version_age_s, kb.refresh_age_s, kb.is_well, kb.stages) == (None, None, True, {})


def test_a_tenant_sees_its_own_and_no_sum_of_others(db: Database) -> None:
    for key in (ACME, GLOBEX):
        refreshed(db, key, f"run-{key.tenant}")
        request_run(db, key, [], "tester")
    found = read_figures(db, "acme")
    assert [each.tenant for each in found.kbs] == ["acme"]
    assert [each.tenant for each in found.queues] == ["acme"]
    assert {each.tenant for each in found.usage} == {"acme"}
    assert sum(found.states.values()) == 1
    everything = read_figures(db)
    assert [each.tenant for each in everything.queues] == ["acme", "globex"]
    assert {each.tenant for each in everything.usage} == {"acme", "globex"}


def test_beyond_the_cap_kbs_are_one_sum_and_those_that_are_not_well_are_shown(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "MOST_KBS", 2)
    for n in range(5):
        refreshed(db, KbKey("acme", f"kb-{n}"), f"run-{n}", "failed" if n == 4 else "ready")
    first, second, rest = read_figures(db).kbs
    assert (first.kb, first.is_well) == ("kb-4", False)
    assert second.is_well
    assert (rest.tenant, rest.kb, rest.stages) == (OTHER, OTHER, {})
    assert rest.documents == 3 * second.documents > 0
    assert rest.version_age_s is not None


def test_beyond_the_cap_tenants_are_one_sum(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "MOST_TENANTS", 1)
    for n in range(3):
        key = KbKey(f"tenant-{n}", "docs")
        refreshed(db, key, f"run-{n}")
        request_run(db, key, [], "tester")
    found = read_figures(db)
    assert [each.tenant for each in found.queues] == ["tenant-0", OTHER]
    assert [each.waiting for each in found.queues] == [1, 2]
    usage = {each.tenant: each.seconds for each in found.usage}
    assert len(usage) == 2
    assert usage[OTHER] == pytest.approx(3.0)
