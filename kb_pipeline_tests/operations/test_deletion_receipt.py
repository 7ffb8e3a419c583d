"""Receipts of deletions are read and written in the words that homes of earlier releases have."""

from __future__ import annotations

from typing import Any

import pytest

from kb_pipeline.errors import DamagedStore
from kb_pipeline.operations.deletion_receipt import DeletedPlace, DeletionReceipt, is_unfinished

BEGUN: dict[str, Any] = {
    "key": "acme/docs",
    "status": "unfinished",
    "begun_at": "2026-11-01T10:00:00.250000+00:00",
    "by": "operator",
    "earlier": [],
}
WITH_TENANT: dict[str, Any] = {
    "key": "acme/docs",
    "by": "operator",
    "with": "acme",
    "status": "removed",
    "removed_at": "2026-10-01T10:00:00+00:00",
    "lease_token": 7,
}
COUNTED = BEGUN | {
    "kbs": ["acme/docs"],
    "places": [{"place": "data/acme/docs", "removed": 3, "bytes": 120}, {"place": "table kbs", "removed": 1}],
}
FINISHED = COUNTED | {
    "status": "removed",
    "earlier": [WITH_TENANT],
    "removed_at": "2026-11-01T10:01:00+00:00",
    "checks": [{"store": "logs", "found": 0}],
    "not_reached": ["backups"],
    "lease_token": 9,
}


@pytest.mark.parametrize("stored", [BEGUN, WITH_TENANT, COUNTED, FINISHED])
def test_a_stored_receipt_is_written_as_it_was_read(stored: dict[str, Any]) -> None:
    receipt = DeletionReceipt.from_json(stored)
    assert receipt.as_json() == stored
    assert receipt.is_finished is (not is_unfinished(stored))


def test_an_entry_of_the_audit_log_has_no_earlier_receipts() -> None:
    entry = DeletionReceipt.from_json(FINISHED).as_entry()
    assert entry == {name: value for name, value in FINISHED.items() if name != "earlier"}


def test_a_place_that_is_found_on_the_way_is_added() -> None:
    receipt = DeletionReceipt.from_json(COUNTED).with_place(DeletedPlace("embedding cache", 4))
    assert receipt.as_json()["places"] == [*COUNTED["places"], {"place": "embedding cache", "removed": 4}]


@pytest.mark.parametrize(
    ("change", "problem"),
    [({"key": 3}, "key"), ({"begun_at": "yesterday"}, "begun_at"), ({"places": [{"place": "x"}]}, "removed")],
)
def test_a_damaged_receipt_is_refused(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(DamagedStore, match=problem):
        DeletionReceipt.from_json(BEGUN | change)
