"""What one version added to, changed in and removed from another, and a feed that carries it elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kb_pipeline.index.diff import change_feed, diff_versions
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.store.stage_tables import kept_documents
from kb_pipeline_tests.index.orchard import Orchard

LINK = "Pears are told of [elsewhere](http://x.example/a)."


@pytest.fixture
def orchard(tmp_path: Path) -> Orchard:
    """Two versions: of the first one's fruit one stays, one changes, one goes; one is new."""
    kb = Orchard(tmp_path)
    kb.grow("/apples", "Apples keep.", "They like the dark.")
    kb.grow("/pears", "Pears ripen.", LINK, "Pick them hard.")
    kb.grow("/plums", "Plums are dried.")
    kb.publish()
    kb.grow("/apples", "Apples keep.", "They like the dark.", body=b"<!-- other bytes, same text -->")
    kb.grow("/pears", "Pears ripen.", LINK, "Pick them when hard.", "Store them cool.")
    kb.remove(["/plums"])
    kb.grow("/quinces", "Quinces are cooked.")
    kb.publish()
    return kb


Held = dict[str, dict[str, dict[str, Any]]]


def held_by(version: VersionReader) -> Held:
    """Return what an external index would hold of a version."""
    table = version.table("documents")
    documents = table.read_columns(["document_id", "source", "key", "title"], kept_documents(table.schema.names))
    columns = ["chunk_id", "document_id", "key", "start", "end", "text"]
    chunks = version.table("chunks").read_columns(columns)
    return {
        "document": {row["document_id"]: row for row in documents.to_dicts()},
        "chunk": {row["chunk_id"]: row for row in chunks.to_dicts()},
    }


def feed_of(before: VersionReader, after: VersionReader) -> list[dict[str, Any]]:
    """Return the feed as `kb diff --feed` prints it."""
    return [dict(change.as_json()) for change in change_feed(diff_versions(before, after))]


def follow(held: Held, feed: list[dict[str, Any]]) -> Held:
    """Apply a feed as an outside index would: the last word on an id counts, and nothing may dangle."""
    for line in feed:
        rows, row_id = held[line["kind"]], line[f"{line['kind']}_id"]
        if line["change"] == "removed":
            del rows[row_id]
        else:
            rows[row_id] = {name: line[name] for name in line if name not in {"kind", "change", "sha256"}}
        assert {chunk["document_id"] for chunk in held["chunk"].values()} <= set(held["document"])
    return held


def test_it_counts_and_names_what_differs(orchard: Orchard) -> None:
    assert diff_versions(orchard.version(1), orchard.version(2)).as_json() == {
        "kb": "acme/fruit",
        "from": 1,
        "to": 2,
        "documents": {"added": 1, "changed": 1, "removed": 1, "unchanged": 1},
        "chunks": {"added": 3, "removed": 2, "unchanged": 4},
        "added": ["/quinces"],
        "changed": ["/pears"],
        "removed": ["/plums"],
    }


@pytest.mark.parametrize("way", [(1, 2), (2, 1)], ids=["forward", "back"])
def test_who_follows_the_feed_holds_the_other_version(orchard: Orchard, way: tuple[int, int]) -> None:
    before, after = (orchard.version(number) for number in way)
    assert follow(held_by(before), feed_of(before, after)) == held_by(after)


def test_another_link_target_is_another_chunk_to_those_who_follow(orchard: Orchard) -> None:
    before = orchard.version(2)
    other = LINK.replace("/a)", "/b)")  # as long and with the same words: the chunk's id stays
    orchard.grow("/pears", "Pears ripen.", other, "Pick them when hard.", "Store them cool.")
    after = orchard.reader(orchard.publish())
    assert diff_versions(before, after).as_json()["chunks"] == {"added": 1, "removed": 1, "unchanged": 6}
    assert follow(held_by(before), feed_of(before, after)) == held_by(after)


def test_a_document_that_becomes_the_duplicate_of_another_is_removed(orchard: Orchard) -> None:
    orchard.grow("/quinces", "Pears ripen.", duplicate_of="/pears")
    orchard.publish()
    diff = diff_versions(orchard.version(2), orchard.version(3))
    assert diff.documents.removed["key"].to_list() == ["/quinces"]
    assert (diff.chunks.removed.height, diff.documents.added.height, diff.documents.changed.height) == (1, 0, 0)


def test_a_version_does_not_differ_from_itself(orchard: Orchard) -> None:
    diff = diff_versions(orchard.version(1), orchard.version(1))
    assert (diff.documents.unchanged, diff.chunks.unchanged) == (3, 6)
    assert list(change_feed(diff)) == []


def test_the_feed_does_not_depend_on_the_order_of_the_tables(tmp_path: Path) -> None:
    feeds = []
    for number, keys in enumerate([("/a", "/b", "/c"), ("/c", "/a", "/b")]):
        kb = Orchard(tmp_path / str(number))
        kb.grow("/plums", "Plums.")
        kb.publish()
        for key in keys:
            kb.grow(key, f"First of {key}.", f"Second of {key}.")
        kb.publish()
        feeds.append(feed_of(kb.version(1), kb.version(2)))
    assert feeds[0] == feeds[1]
    assert [line["key"] for line in feeds[0]] == ["/a", "/b", "/c", "/a", "/a", "/b", "/b", "/c", "/c"]


def test_the_lines_of_the_feed(orchard: Orchard) -> None:
    feed = feed_of(orchard.version(1), orchard.version(2))
    assert [(line["kind"], line["change"], line["key"]) for line in feed] == [
        ("chunk", "removed", "/pears"),
        ("chunk", "removed", "/plums"),
        ("document", "removed", "/plums"),
        ("document", "changed", "/pears"),
        ("document", "added", "/quinces"),
        ("chunk", "added", "/pears"),
        ("chunk", "added", "/pears"),
        ("chunk", "added", "/quinces"),
    ]
    assert set(feed[0]) == {"kind", "change", "chunk_id", "document_id", "key", "start", "end"}
    assert set(feed[2]) == {"kind", "change", "document_id", "source", "key", "title", "sha256"}
    assert feed[-1]["text"] == "Quinces are cooked."
