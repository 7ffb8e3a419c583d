"""How refreshes are recorded."""

from __future__ import annotations

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs import versions
from kb_pipeline.control.runs import failures, refreshes
from kb_pipeline_tests.control.planes import ACME, GLOBEX, apply, publish


def test_the_word_of_a_lost_worker_does_not_replace_the_refreshs_own_end(db: Database) -> None:
    refreshes.begin_refresh(db, ACME, "run-1")
    refreshes.end_refresh(db, ACME, "run-1", "held", 1, "shrunk")
    refreshes.end_refresh(db, ACME, "run-1", "failed", message="Dagster says the run failed")
    row = refreshes.get_refresh(db, ACME, "run-1")
    assert row is not None
    assert (row.status, row.message) == ("held", "shrunk")


def test_tenants_do_not_see_each_other(db: Database) -> None:
    for key in (ACME, GLOBEX):
        apply(db, key)
        publish(db, key, f"run-{key.tenant}")
        refreshes.begin_refresh(db, key, f"run-{key.tenant}")
        failures.replace_failures(db, key, "fetch", [failures.FailedItem("site", str(key), "timeout", "", True)])
    assert [row.key for row in failures.list_failures(db, ACME)] == ["acme/docs"]
    assert [row.run_id for row in versions.list_versions(db, ACME)] == ["run-acme"]
    assert refreshes.get_refresh(db, ACME, "run-globex") is None
    assert versions.pending_versions(db, ACME) == []
    failures.replace_failures(db, ACME, "fetch", [])
    assert [row.key for row in failures.list_failures(db, GLOBEX)] == ["globex/docs"]
