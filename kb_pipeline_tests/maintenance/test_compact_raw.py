"""Raw segments: removed with the last version that names them, rewritten when they are mostly garbage."""

from __future__ import annotations

import hashlib
import os
import time
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kb_pipeline.errors import DamagedStore
from kb_pipeline.maintenance import compact_raw
from kb_pipeline.model import document_id
from kb_pipeline.store.manifest import TablePin
from kb_pipeline.store.stage_tables import DOCUMENTS, PAGES
from kb_pipeline_tests.maintenance.meadow import NOW, Meadow, change, text_of, texts_of
from kb_pipeline_tests.store.manifests import manifest_of


@pytest.fixture
def meadow(tmp_path: Path) -> Meadow:
    kb = Meadow(tmp_path)
    kb.put(texts_of(range(130), 0))
    kb.publish()
    return kb


def test_a_segment_goes_with_the_last_version_that_names_it(meadow: Meadow) -> None:
    first = meadow.manifests[0]
    change(meadow, 1, range(130))
    assert compact_raw.collect_raw_segments(meadow.store, meadow.manifests, NOW, lambda: None) == 0
    assert meadow.raw_bytes(first)["/7"] == text_of("/7", 0).encode()
    assert compact_raw.collect_raw_segments(meadow.store, meadow.manifests[1:], NOW, lambda: None) > 0
    assert len(list(meadow.store.paths.raw.iterdir())) == 3
    assert meadow.raw_bytes(meadow.manifests[1])["/7"] == text_of("/7", 1).encode()


def test_young_segments_that_nothing_names_stay(meadow: Meadow) -> None:
    ((name, _),) = meadow.write_segment({"/new": b"not yet in pages"}).values()
    (meadow.store.paths.raw / "torn.tmp").write_bytes(b"half")
    hour = timedelta(hours=1)
    assert compact_raw.collect_raw_segments(meadow.store, meadow.manifests, hour, lambda: None) == 0
    for path in (meadow.store.paths.raw / name, meadow.store.paths.raw / "torn.tmp"):
        os.utime(path, (time.time() - 7200, time.time() - 7200))
    assert compact_raw.collect_raw_segments(meadow.store, meadow.manifests, hour, lambda: None) > 0
    assert len(list(meadow.store.paths.raw.iterdir())) == 3


def test_segments_still_in_a_journal_are_neither_missed_nor_touched(meadow: Meadow) -> None:
    """A run killed between writing `pages` and moving its segments: they are named, and lie in the journal."""
    journal = meadow.store.paths.journal("site")
    journal.mkdir(parents=True)
    meadow.put(texts_of([3], 1))
    name = meadow.store.tables.open(PAGES).head(["segment"], 1, "key = '/3'").to_pylist()[0]["segment"]
    (meadow.store.paths.raw / name).replace(journal / name)
    compact_raw.collect_raw_segments(meadow.store, [], NOW, lambda: None)
    compact_raw.compact_raw_segments(meadow.store, [])
    assert (journal / name).exists()
    assert len(list(meadow.store.paths.raw.iterdir())) == 3


def test_bytes_of_a_document_kept_because_its_newer_bytes_failed_stay(meadow: Meadow) -> None:
    places = meadow.write_segment({"/3": b"newer and broken"})
    sha256 = hashlib.sha256(b"newer and broken").hexdigest()
    page = {"page_id": document_id("site", "/3"), "sha256": sha256, "segment": places["/3"][0], "position": 0}
    meadow.store.tables.open(PAGES).upsert(pa.Table.from_pylist([page]))
    failed = pa.table({"document_id": [document_id("site", "/3")], "reason": ["timeout"]})
    meadow.store.tables.open(DOCUMENTS).upsert(failed)
    meadow.put(texts_of([n for n in range(130) if n != 3], 1))
    meadow.publish()
    for _ in range(3):
        meadow.tidy(1)
    stored = [body for path in meadow.store.paths.raw.iterdir() for body in pq.read_table(path)["body"].to_pylist()]
    assert text_of("/3", 0).encode() in stored
    assert text_of("/5", 0).encode() in stored, "it lies in the same segment"
    assert text_of("/100", 0).encode() not in stored


def test_garbage_among_raw_bytes_is_rewritten_and_bytes_stay_the_same(meadow: Meadow) -> None:
    manifest = change(meadow, 1, range(0, 130, 2))
    before = meadow.raw_bytes(manifest)
    assert compact_raw.compact_raw_segments(meadow.store, meadow.manifests) > 0
    assert meadow.raw_bytes(manifest) == before, "the version still names the old segments"
    after = meadow.publish()
    assert meadow.raw_bytes(after) == before
    assert compact_raw.collect_raw_segments(meadow.store, [after], NOW, lambda: None) > 0
    assert meadow.raw_bytes(after) == before
    assert compact_raw.compact_raw_segments(meadow.store, [after]) == 0, "nothing is left to gain"


@pytest.mark.parametrize("moment", ["raw.rewrite.before", "raw.rewrite.after"])
def test_a_crash_while_raw_bytes_are_rewritten_loses_nothing(
    meadow: Meadow, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = change(meadow, 1, range(0, 130, 2))
    before = meadow.raw_bytes(manifest)

    def crash(name: str) -> None:
        if name == moment:
            raise KeyboardInterrupt

    monkeypatch.setattr(compact_raw, "failpoint", crash)
    with pytest.raises(KeyboardInterrupt):
        compact_raw.compact_raw_segments(meadow.store, meadow.manifests)
    monkeypatch.undo()
    after = meadow.publish()
    assert meadow.raw_bytes(manifest) == meadow.raw_bytes(after) == before
    meadow.tidy(1)
    meadow.publish()
    meadow.tidy(1)
    assert meadow.raw_bytes(meadow.manifests[-1]) == before
    named = {row[0] for row in meadow.store.tables.open(PAGES).read_columns(["segment"]).unique().iter_rows()}
    assert {path.name for path in meadow.store.paths.raw.iterdir()} == named


def test_damaged_bytes_are_not_copied_into_a_segment_that_looks_sound(meadow: Meadow) -> None:
    change(meadow, 1, range(0, 130, 2))
    for victim in sorted(meadow.store.paths.raw.iterdir())[:2]:
        table = pq.read_table(victim)
        bodies = pa.array([b"x" + body[1:] for body in table["body"].to_pylist()])
        pq.write_table(table.set_column(table.schema.get_field_index("body"), "body", bodies), victim)
    segments = set(meadow.store.paths.raw.glob("*.parquet"))
    with pytest.raises(DamagedStore, match="not those of its hash"):
        compact_raw.compact_raw_segments(meadow.store, meadow.manifests)
    assert set(meadow.store.paths.raw.glob("*.parquet")) == segments


def test_where_a_kept_version_cannot_be_read_nothing_is_removed(meadow: Meadow) -> None:
    change(meadow, 1, range(130))
    segments = set(meadow.store.paths.raw.iterdir())
    gone = {**meadow.manifests[0].tables, "pages": TablePin(PAGES, 999)}
    unknown = manifest_of(meadow.store.key, 9, tables=gone)
    with pytest.raises(DamagedStore):
        compact_raw.collect_raw_segments(meadow.store, [unknown], NOW, lambda: None)
    assert set(meadow.store.paths.raw.iterdir()) == segments
