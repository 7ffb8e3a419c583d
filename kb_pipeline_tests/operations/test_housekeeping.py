"""What is freed after a publish and at night, and what stays for readers who are still at it."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kb_pipeline.control.coordination import leases
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs import catalog, versions
from kb_pipeline.embed.models import model_fingerprint
from kb_pipeline.embed.refresh import vectors_name, vectors_schema, vectors_table
from kb_pipeline.errors import DamagedStore, LeaseHeld, UnknownVersion
from kb_pipeline.maintenance import compact_raw
from kb_pipeline.model import KbKey
from kb_pipeline.operations import housekeeping
from kb_pipeline.settings import Settings
from kb_pipeline.spec.kb_file import parse_spec
from kb_pipeline.store.manifest import write_manifest
from kb_pipeline.store.stage_tables import VECTORS_PREFIX
from kb_pipeline_tests.databases import control_url
from kb_pipeline_tests.index.fruit import MODEL
from kb_pipeline_tests.maintenance.meadow import Meadow, text_of, texts_of

KEY = KbKey("acme", "meadow")
KB_MODEL = "multilingual-e5-small"
"""The model of KB files that name none."""
NOW, GRACE = timedelta(0), timedelta(minutes=10)


class PublishedMeadow:
    """A KB that is known to a control plane; every `publish` is a version there."""

    def __init__(self, folder: Path, name: str = "meadow") -> None:
        url = control_url(folder)
        self.settings = Settings(folder, url, folder / "data", "", (), "text")
        self.db, self.key = Database(url), KbKey("acme", name)
        yaml = f"tenant: acme\nkb: {name}\nsources: [{{name: site, type: web, start_urls: ['http://x.example/']}}]\n"
        catalog.apply_spec(self.db, parse_spec(yaml, "test"), yaml, "tester")
        self.meadow = Meadow(self.settings.data_dir, name)
        self.store = self.meadow.store

    def publish(self, revision: int, *, status: str = "published") -> int:
        """Publish a version in which every document has changed; return its number."""
        self.meadow.put(texts_of(range(8), revision))
        manifest = self.meadow.publish()
        write_manifest(self.store.paths, manifest)
        lease = leases.acquire_lease(self.db, self.key, "run")
        number = versions.reserve_version(self.db, lease, "run")
        versions.record_verdict(self.db, lease, number, "candidate" if status == "published" else status, manifest)
        if status == "published":
            versions.publish_version(self.db, lease, number)
        return number

    def tidy(self, keep: int = 2, grace: timedelta = GRACE) -> int:
        lease = leases.acquire_lease(self.db, self.key, "run")
        try:
            return housekeeping.tidy_kb(self.store, self.db, lease, keep, KB_MODEL, grace)
        finally:
            leases.release_lease(self.db, lease)

    def statuses(self) -> list[str]:
        return [row.status for row in versions.list_versions(self.db, self.key)]

    def is_readable(self, number: int) -> bool:
        manifest = self.meadow.manifests[number - 1]
        fresh = Meadow(self.settings.data_dir, self.key.kb)
        try:
            return bool(fresh.answers(manifest)) and len(fresh.raw_bytes(manifest)) == 8
        except DamagedStore:
            return False


@pytest.fixture
def kb(tmp_path: Path) -> PublishedMeadow:
    return PublishedMeadow(tmp_path)


def test_versions_beyond_those_kept_are_pruned_and_every_other_stays_readable(kb: PublishedMeadow) -> None:
    for revision in range(1, 5):
        kb.publish(revision)
        kb.tidy(grace=NOW)
    assert kb.statuses() == ["published", "published", "pruned", "pruned"]
    assert [kb.is_readable(number) for number in (1, 2, 3, 4)] == [False, False, True, True]
    assert {path.name for path in kb.store.paths.versions.iterdir()} == {"000003.json", "000004.json"}


def test_a_pruned_version_gets_no_new_reader_but_those_it_has_may_go_on(kb: PublishedMeadow) -> None:
    for revision in (1, 2, 3):
        kb.publish(revision)
    opened = kb.store.tables.open("chunks", kb.meadow.manifests[0].tables["chunks"].version)
    kb.tidy()
    with pytest.raises(UnknownVersion):
        versions.manifest_as_of(kb.db, kb.key, "1")
    kb.tidy()
    assert kb.is_readable(1)
    assert set(opened.read_columns(["text"])["text"]) == set(texts_of(range(8), 1).values())
    pruned_at = versions.get_manifest(kb.db, kb.key, 1).pruned_at
    assert pruned_at is not None
    assert timedelta(0) <= datetime.now(UTC) - pruned_at < timedelta(minutes=1)
    assert kb.tidy(grace=NOW) > 0
    assert not kb.is_readable(1)


def test_a_rolled_back_version_and_the_live_one_are_kept_whatever_their_age(kb: PublishedMeadow) -> None:
    for revision in (1, 2, 3):
        kb.publish(revision)
    lease = leases.acquire_lease(kb.db, kb.key, "run")
    versions.roll_back(kb.db, lease, 1, "tester")
    kb.tidy(keep=1, grace=NOW)
    assert kb.statuses() == ["rolled_back", "pruned", "published"]
    assert [kb.is_readable(number) for number in (1, 2, 3)] == [True, False, True]


def test_what_waits_for_approval_is_kept_and_what_was_superseded_or_failed_is_not(kb: PublishedMeadow) -> None:
    kb.publish(1)
    for revision, status in enumerate(("held", "superseded", "failed", "candidate"), start=2):
        kb.publish(revision, status=status)
    kb.tidy(grace=NOW)
    assert [kb.is_readable(number) for number in range(1, 6)] == [True, True, False, False, True]


def test_tags_of_a_run_that_died_before_it_noted_its_version_are_removed(kb: PublishedMeadow) -> None:
    kb.publish(1)
    chunks = kb.store.tables.open("chunks")
    chunks.tags.put("v77", chunks.version)
    chunks.tags.put("mine", chunks.version)
    kb.tidy(grace=NOW)
    assert set(chunks.tags.versions()) == {"v1", "mine"}


def test_a_failure_of_tidying_is_logged_and_harms_nothing(
    kb: PublishedMeadow, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for revision in (1, 2, 3):
        kb.publish(revision)

    def broken(*args: object) -> int:
        raise OSError("No space left on device")

    monkeypatch.setattr(compact_raw, "collect_raw_segments", broken)
    with caplog.at_level(logging.WARNING):
        kb.tidy(grace=NOW)
    assert "acme/meadow: tidying failed" in caplog.text
    assert [kb.is_readable(number) for number in (2, 3)] == [True, True]


def test_a_writer_that_was_replaced_frees_nothing(kb: PublishedMeadow, caplog: pytest.LogCaptureFixture) -> None:
    for revision in (1, 2, 3):
        kb.publish(revision)
    zombie = leases.acquire_lease(kb.db, kb.key, "run")
    leases.release_lease(kb.db, zombie)
    leases.acquire_lease(kb.db, kb.key, "heir")
    assert housekeeping.tidy_kb(kb.store, kb.db, zombie, 1, KB_MODEL, NOW) == 0
    assert "another run took over" in caplog.text
    assert kb.statuses() == ["published"] * 3


def test_the_night_tidies_every_kb_that_nobody_writes_and_gives_the_leases_back(tmp_path: Path) -> None:
    kb, busy = PublishedMeadow(tmp_path), PublishedMeadow(tmp_path, "busy")
    for each in (kb, busy):
        for revision in range(1, 8):
            each.publish(revision)
        leases.release_lease(each.db, leases.acquire_lease(each.db, each.key, "run"))
    with leases.hold_lease(busy.db, busy.key, "their-run"):
        freed = housekeeping.tidy_all(kb.settings, kb.db, "night", NOW, NOW)
    assert set(freed.as_json()) == {"acme/meadow"}
    assert freed.total == freed.by_kb[kb.key] > 0
    assert "pruned" in kb.statuses()
    assert "pruned" not in busy.statuses()
    leases.acquire_lease(kb.db, kb.key, "next")


def test_a_kb_that_lacks_a_variable_does_not_stop_the_night(
    kb: PublishedMeadow, caplog: pytest.LogCaptureFixture
) -> None:
    source = {"name": "site", "type": "web", "start_urls": ["http://meadow.example/"], "exclude": ["/${GONE}/**"]}
    yaml = json.dumps({"tenant": "globex", "kb": "lacking", "sources": [source]})
    catalog.apply_spec(kb.db, parse_spec(yaml, "test", {"GONE": "x"}), yaml, "tester")
    for revision in range(1, 8):
        kb.publish(revision)
    leases.release_lease(kb.db, leases.acquire_lease(kb.db, kb.key, "run"))
    assert set(housekeeping.tidy_all(kb.settings, kb.db, "night", NOW, NOW).as_json()) == {"acme/meadow"}
    assert "kb secret set globex GONE" in caplog.text


def test_the_cache_loses_what_no_version_kept_uses_and_models_no_kb_uses(kb: PublishedMeadow) -> None:
    for revision in (1, 2, 3):
        kb.publish(revision)
    kb.tidy(grace=NOW)
    leases.release_lease(kb.db, leases.acquire_lease(kb.db, kb.key, "run"))
    current = vectors_name(model_fingerprint(KB_MODEL))
    for name in (vectors_name("gone" * 8), current):
        kb.store.vectors.open_or_create(name, vectors_schema(8))
    housekeeping.tidy_vectors(kb.settings, kb.db, [kb.key], "night", NOW, timedelta(hours=1))
    assert len(kb.store.vectors.names(VECTORS_PREFIX)) == 3, "young tables stay"
    housekeeping.tidy_vectors(kb.settings, kb.db, [kb.key], "night", NOW, NOW)
    assert set(kb.store.vectors.names(VECTORS_PREFIX)) == {current, vectors_name(MODEL.fingerprint)}
    assert vectors_table(kb.store, MODEL).count() == 16


def test_the_cache_is_left_alone_while_any_kb_of_the_tenant_is_written(tmp_path: Path) -> None:
    kb, other = PublishedMeadow(tmp_path), PublishedMeadow(tmp_path, "other")
    kb.meadow.put({"/old": text_of("/old", 1)})
    kb.meadow.put({"/old": text_of("/old", 2)})
    with leases.hold_lease(other.db, other.key, "their-run"), pytest.raises(LeaseHeld):
        housekeeping.tidy_vectors(kb.settings, kb.db, [kb.key, other.key], "night", NOW, NOW)
    assert vectors_table(kb.store, MODEL).count() == 2
    leases.acquire_lease(kb.db, kb.key, "next")
