"""What killed runs have used is counted once, by what their files prove."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kb_pipeline.control.coordination.leases import HeldLease, acquire_lease
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.metering.ledger import TokenLedger, pending_batches
from kb_pipeline.control.metering.report import list_usage
from kb_pipeline.embed.refresh import vectors_table
from kb_pipeline.errors import LeaseLost
from kb_pipeline.model import EmbeddingModel
from kb_pipeline.operations.recover_usage import recover_tokens, recover_usage
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.paths import KbPaths
from kb_pipeline_tests.control.planes import ACME, apply, expire

MODEL = EmbeddingModel("none", "0" * 32, 4)


@pytest.fixture
def store(tmp_path: Path) -> KbStore:
    return KbStore(KbPaths(tmp_path / "data", ACME))


@pytest.fixture
def lease(db: Database) -> HeldLease:
    apply(db, ACME)
    return acquire_lease(db, ACME, "run-1")


def begin(db: Database, lease: HeldLease, unit: str, *texts: str) -> None:
    TokenLedger(db, lease, MODEL).begin(unit, texts, [10] * len(texts))


def store_vectors(store: KbStore, *texts: str) -> None:
    import pyarrow as pa

    table = vectors_table(store, MODEL)
    vectors = pa.FixedSizeListArray.from_arrays(np.ones(4 * len(texts), np.float32) / 2, 4)
    rows = pa.table({"text_hash": list(texts), "vector": vectors.cast(table.schema.field("vector").type)})
    table.append(rows.select(table.schema.names).to_batches())


def used(db: Database) -> dict[str | None, int]:
    return {row.operation: row.tokens or row.pages for row in list_usage(db, "acme", by="operation")}


def test_a_pending_batch_counts_if_its_vectors_are_stored_and_is_forgotten_otherwise(
    db: Database, lease: HeldLease, store: KbStore
) -> None:
    begin(db, lease, "stored", "a", "b")
    begin(db, lease, "half", "a", "c")
    begin(db, lease, "never", "d")
    store_vectors(store, "a", "b")
    assert {batch.unit: batch.text_hashes for batch in pending_batches(db, ACME)} == {
        "embed/stored": ("a", "b"),
        "embed/half": ("a", "c"),
        "embed/never": ("d",),
    }
    recover_tokens(db, lease, store)
    assert pending_batches(db, ACME) == []
    assert used(db) == {"embed": 20}
    recover_tokens(db, lease, store)
    assert used(db) == {"embed": 20}


def test_without_a_cache_no_batch_was_embedded(db: Database, lease: HeldLease, store: KbStore) -> None:
    begin(db, lease, "never", "a")
    recover_usage(db, lease, store)
    assert (pending_batches(db, ACME), used(db)) == ([], {})


def test_a_writer_that_was_replaced_settles_nothing(db: Database, lease: HeldLease, store: KbStore) -> None:
    begin(db, lease, "never", "a")
    expire(db, ACME)
    acquire_lease(db, ACME, "run-2")
    with pytest.raises(LeaseLost):
        recover_tokens(db, lease, store)
    assert [batch.unit for batch in pending_batches(db, ACME)] == ["embed/never"]


def test_a_note_of_a_fetch_that_cannot_be_read_is_skipped(db: Database, lease: HeldLease, store: KbStore) -> None:
    store.paths.journals.mkdir(parents=True)
    (store.paths.journals / "torn.json").write_bytes(b"{")
    (store.paths.journals / "counted.json").write_text(json.dumps({"fetch_id": "1", "adopted": []}))
    recover_usage(db, lease, store)
    assert used(db) == {}
