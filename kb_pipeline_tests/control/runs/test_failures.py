"""The dead letters of a KB."""

from __future__ import annotations

from datetime import UTC, datetime

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.runs import failures
from kb_pipeline_tests.control.planes import ACME


def test_failures_count_attempts_and_vanish_when_solved(db: Database) -> None:
    def item(key: str) -> failures.FailedItem:
        return failures.FailedItem("site", key, "http_503", "try later", recoverable=True)

    failures.replace_failures(db, ACME, "fetch", [item("/a"), item("/b")])
    first_seen = {row.key: row.first_seen for row in failures.list_failures(db, ACME)}
    failures.replace_failures(db, ACME, "fetch", [item("/b")])
    (row,) = failures.list_failures(db, ACME)
    assert (row.key, row.attempts, row.first_seen) == ("/b", 2, first_seen["/b"])
    failures.replace_failures(db, ACME, "clean", [])
    assert len(list(failures.list_failures(db, ACME))) == 1  # another stage's list is not touched


def test_a_key_that_fails_in_two_ways_is_one_failure_by_the_first_of_them(db: Database) -> None:
    page = failures.FailedItem("site", "/feed.xml", "http_500", "the page", recoverable=True, attempts=3)
    sitemap = failures.FailedItem("site", "/feed.xml", "http_500", "sitemap: status 500", recoverable=True)
    for _ in range(2):  # as a new row, and over one that is there
        failures.replace_failures(db, ACME, "fetch", [page, sitemap])
        (row,) = failures.list_failures(db, ACME)
        assert (row.message, row.attempts) == ("the page", 3)
    failures.replace_failures(db, ACME, "clean", [sitemap])
    assert [row.stage for row in failures.list_failures(db, ACME)] == ["clean", "fetch"]


def test_a_failure_prints_its_fields_in_order(db: Database) -> None:
    tried_at = datetime(2026, 11, 29, 12, 30, tzinfo=UTC)
    item = failures.FailedItem("site", "/a", "http_503", "try later", True, attempts=3, tried_at=tried_at)
    failures.replace_failures(db, ACME, "fetch", [item])
    (row,) = failures.list_failures(db, ACME)
    assert row.last_seen == tried_at
    assert list(row.as_json().items()) == [
        ("id", row.id),
        ("source", "site"),
        ("stage", "fetch"),
        ("key", "/a"),
        ("reason", "http_503"),
        ("message", "try later"),
        ("recoverable", True),
        ("attempts", 3),
        ("first_seen", row.first_seen.isoformat()),
        ("last_seen", "2026-11-29T12:30:00+00:00"),
    ]
