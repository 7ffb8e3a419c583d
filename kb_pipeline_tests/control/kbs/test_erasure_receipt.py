"""Receipts of erased documents as they are kept: of this release, of earlier ones, and damaged."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from kb_pipeline.control.kbs.erasure_receipt import ErasedPlace, ErasureCheck, ErasureReceipt
from kb_pipeline.errors import DamagedStore
from kb_pipeline.model import KbKey

BEGUN = ErasureReceipt(
    kb=KbKey("acme", "docs"),
    key="/secret",
    document_ids=("d1", "d2"),
    erased_at=datetime(2026, 11, 21, 8, tzinfo=UTC),
    by="erase-1",
    versions=(1, 2),
    same_content_at=("/twin",),
    stood_for=(),
    not_reached=("backups",),
    earlier=(),
    status="unfinished",
)
PLACES = (
    ErasedPlace("table pages", 3, "rows, over all versions kept"),
    ErasedPlace("raw segments", 2, "bodies", segments=("site-1.parquet",)),
    ErasedPlace("quarantine", 0, "files", files=()),
)
DONE = BEGUN.finished(PLACES, (ErasureCheck("raw segments", 0),))


def as_stored(receipt: ErasureReceipt) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(json.dumps(receipt.as_json()))
    return parsed


@pytest.mark.parametrize("receipt", [BEGUN, DONE], ids=["begun", "done"])
def test_what_is_stored_is_read_back(receipt: ErasureReceipt) -> None:
    assert ErasureReceipt.from_json(as_stored(receipt)) == receipt


def test_it_is_stored_in_the_words_that_the_command_line_prints() -> None:
    stored = as_stored(DONE)
    assert list(stored) == [
        "kb", "key", "document_ids", "erased_at", "by", "versions", "same_content_at", "stood_for", "not_reached",
        "earlier", "status", "places", "checks",
    ]  # fmt: skip
    assert (stored["kb"], stored["status"], stored["versions"]) == ("acme/docs", "erased", [1, 2])
    assert stored["places"] == [
        {"place": "table pages", "removed": 3, "what": "rows, over all versions kept"},
        {"place": "raw segments", "removed": 2, "what": "bodies", "segments": ["site-1.parquet"]},
        {"place": "quarantine", "removed": 0, "what": "files", "files": []},
    ]
    assert stored["checks"] == [{"store": "raw segments", "found": 0}]


def test_one_that_has_begun_says_nothing_of_places_yet() -> None:
    assert not BEGUN.is_finished
    assert {"places", "checks"}.isdisjoint(as_stored(BEGUN))


def test_earlier_receipts_are_kept_within_without_their_own() -> None:
    again = ErasureReceipt.from_json(as_stored(BEGUN) | {"earlier": [as_stored(DONE)]})
    assert again.earlier == (DONE,)
    assert ["earlier" in each for each in as_stored(again)["earlier"]] == [False]
    assert ErasureReceipt.from_json(as_stored(again)) == again


@pytest.mark.parametrize(
    "changed", [{"kb": 3}, {"versions": ["1"]}, {"colour": "blue"}, {"places": [{}]}, {"places": 1}]
)
def test_a_receipt_that_cannot_be_one_is_damage(changed: dict[str, Any]) -> None:
    with pytest.raises(DamagedStore, match="the receipt of an erasure"):
        ErasureReceipt.from_json(as_stored(DONE) | changed)
