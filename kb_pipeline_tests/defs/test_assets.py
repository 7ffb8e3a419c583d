"""A refresh as Dagster's instance records it: what a run says of a KB that is held beside one that is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from kb_pipeline.defs.instance import open_instance
from kb_pipeline.settings import load_settings
from kb_pipeline_tests.published import Published

KEY = "acme/docs"
CANDIDATE = dg.AssetKey("candidate_version")
OWN_TAGS = {"dagster/partition": KEY, "kb/tenant": "acme", "kb/kb": "docs", "kb/plan": "default",
            "kb/tenant.default": "acme"}  # fmt: skip


@pytest.fixture
def instance(published: Published) -> Iterator[dg.DagsterInstance]:
    with open_instance(load_settings()) as instance:
        yield instance


def shrink(published: Published) -> None:
    published.site.put("/", "Orchard", "The handbook of our orchard.")
    for path in ("/apples", "/pears", "/plums"):
        del published.site.pages[path]


def last_run(instance: dg.DagsterInstance) -> dg.DagsterRun:
    return instance.get_runs(limit=1)[0]


def failure_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterEvent:
    events = (entry.dagster_event for entry in instance.all_logs(run.run_id))
    (failed,) = (event for event in events if event and event.is_step_failure)
    return failed


def verdict(instance: dg.DagsterInstance, check: str, key: str) -> AssetCheckExecutionRecordStatus:
    storage, check_key = instance.event_log_storage, dg.AssetCheckKey(CANDIDATE, check)
    (newest,) = storage.get_asset_check_partition_info([check_key], partition_keys=[key])
    return newest.latest_execution_status


def dagster(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"DAGSTER_HOME": str(load_settings().dagster_dir)}
    return subprocess.run(
        [sys.executable, "-m", "dagster", *arguments], env=environment, capture_output=True, text=True
    )


@pytest.mark.upgrade("dagster")
def test_a_held_kb_stays_failed_beside_one_that_is_refreshed_later(
    published: Published, instance: dg.DagsterInstance
) -> None:
    shrink(published)
    held = published.kb.build()
    assert (held.status, held.json["status"]) == (3, "held"), held.err
    run = last_run(instance)
    assert (run.status, run.tags["kb/status"]) == (dg.DagsterRunStatus.FAILURE, "held")

    told = failure_of(instance, run).step_failure_data
    assert told.error is not None
    assert told.error.stack == []
    assert told.error.cause is None
    for words in ("held: acme/docs: not published", "not_shrunk: 3 of 5 documents vanished", "kb approve acme/docs 2"):
        assert words in told.error.message
    assert told.user_failure_data is not None
    assert told.user_failure_data.metadata["approve_with"].value == "kb approve acme/docs 2"

    assert published.kb.apply(published.site, kb="other").status == 0
    other = published.kb.build("other")
    assert (other.status, last_run(instance).tags["kb/status"]) == (0, other.json["status"])
    status = AssetCheckExecutionRecordStatus
    assert verdict(instance, "not_shrunk", KEY) == status.FAILED
    assert verdict(instance, "not_shrunk", "acme/other") == status.SUCCEEDED
    assert verdict(instance, "keys_unique", KEY) == status.SUCCEEDED

    over_all = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(CANDIDATE, "no_kb_held"), limit=1
    )[0]
    assert over_all.run_id == other.json["run_id"]
    assert over_all.status == status.FAILED

    for asset in (CANDIDATE, dg.AssetKey("published_version")):  # nothing green stands for the held version
        event = instance.get_latest_materialization_event(asset)
        assert event is not None
        assert event.run_id == other.json["run_id"]


def test_what_a_run_did_is_told_in_words_first(published: Published, instance: dg.DagsterInstance) -> None:
    published.site.put("/apples", "Apples", "Apples are kept in the cellar now, until the spring.")
    built = published.kb.build()
    assert (built.status, built.json["version"]) == (0, 2), built.err

    def metadata(asset: str) -> dict[str, object]:
        event = instance.get_latest_materialization_event(dg.AssetKey(asset))
        assert event is not None
        assert event.asset_materialization is not None
        return {name: value.value for name, value in event.asset_materialization.metadata.items()}

    candidate = metadata("candidate_version")
    assert candidate["changes"] == "documents since version 1: 1 changed"
    assert candidate["documents_changed"] == 1
    assert f"<{published.site.url}/apples>" in str(candidate["links"])
    assert list(candidate)[-1] == "manifest"  # no JSON is read first
    assert metadata("published_version")["summary"] == "version 2 is live, after version 1"
    raw = metadata("raw_documents")
    assert raw["source site"] == f"{published.site.url}/"
    assert "passed" in str(raw["summary"])
    assert str(raw["raw"]).endswith("kB")


def test_a_run_that_dagsters_command_starts_carries_every_tag(
    published: Published, instance: dg.DagsterInstance
) -> None:
    done = dagster(
        "asset", "materialize", "-m", "kb_pipeline.definitions", "--select", "raw_documents", "--partition", KEY
    )
    assert done.returncode == 0, done.stderr
    run = last_run(instance)
    assert run.tags.items() >= (OWN_TAGS | {"kb/status": "partial"}).items()

    built = published.kb.build()
    (run,) = instance.get_runs(dg.RunsFilter(run_ids=[built.json["run_id"]]))
    assert run.tags.items() >= (OWN_TAGS | {"kb/status": "unchanged"}).items()


@pytest.mark.parametrize("key", [KEY, "acme/typo"])
def test_a_launched_job_is_tagged_and_queued_or_refused_in_words(
    published: Published, instance: dg.DagsterInstance, key: str
) -> None:
    tags = json.dumps({"dagster/partition": key})
    done = dagster("job", "launch", "-m", "kb_pipeline.definitions", "-j", "refresh_kb", "--tags", tags)
    assert done.returncode == 0, done.stderr
    run = last_run(instance)
    if key == KEY:
        assert run.status == dg.DagsterRunStatus.QUEUED
        assert run.tags.items() >= OWN_TAGS.items()
    else:
        assert run.status == dg.DagsterRunStatus.FAILURE
        messages = [entry.message for entry in instance.all_logs(run.run_id)]
        assert any("acme/typo: no such KB here; apply its file first" in message for message in messages)
