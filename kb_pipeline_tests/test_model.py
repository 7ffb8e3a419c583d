"""The words that everything shares: KB keys, records and their JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass
from datetime import UTC, datetime

import pytest

from kb_pipeline.errors import InvalidKey
from kb_pipeline.model import KbKey, Record, digest, document_id


@dataclass(frozen=True, slots=True)
class Leaf(Record):
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Tree(Record):
    kb: KbKey
    leaves: tuple[Leaf, ...]
    counts: Mapping[str, int]
    name: str = "oak"


def test_a_records_json_has_its_fields_in_order_and_can_be_written() -> None:
    at = datetime(2026, 11, 29, 12, 30, tzinfo=UTC)
    tree = Tree(KbKey("acme", "docs"), (Leaf(at), Leaf(None)), {"en": 2})
    assert list(tree.as_json().items()) == [
        ("kb", "acme/docs"),
        ("leaves", [{"at": "2026-11-29T12:30:00+00:00"}, {"at": None}]),
        ("counts", {"en": 2}),
        ("name", "oak"),
    ]
    assert json.loads(json.dumps(tree.as_json())) == tree.as_json()


def test_a_record_cannot_be_changed_and_its_json_is_a_copy() -> None:
    tree = Tree(KbKey("acme", "docs"), (), {"en": 2})
    tree.as_json()["counts"]["en"] = 7
    assert tree.counts == {"en": 2}
    with pytest.raises(FrozenInstanceError):
        tree.name = "elm"  # type: ignore[misc]  # which is what is tried


@pytest.mark.parametrize("text", ["acme", "acme/", "/docs", "acme/docs/more", "Acme/d", "acme/-docs", "a" * 64 + "/b"])
def test_what_is_no_key_is_refused_with_what_was_given(text: str) -> None:
    with pytest.raises(InvalidKey) as refused:
        KbKey.parse(text)
    assert refused.value.given == text


def test_a_digest_tells_where_one_part_ends() -> None:
    assert digest("ab", "c") != digest("a", "bc")
    assert document_id("site", "/a") == document_id("site", "/a") != document_id("blog", "/a")
