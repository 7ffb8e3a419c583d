"""What a crawl takes over from the journal of one that was interrupted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kb_pipeline.fetch.web.crawl.journal import JournalWriter, Row
from kb_pipeline.fetch.web.crawl.resume import PreviousCrawl

_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def row(key: str, outcome: str = "fetched", **fields: Any) -> Row:
    body = b"<p>text" if outcome == "fetched" else None
    return Row(**{"key": key, "url": key, "outcome": outcome, "fetched_at": _BEGAN, "depth": 1, "body": body, **fields})


def journal(folder: Path, *rows: Row) -> Path:
    """Each row a second after the one before, as in a crawl."""
    writer = JournalWriter(folder)
    for number, each in enumerate(rows):
        each.fetched_at = _BEGAN + timedelta(seconds=number)
        writer.append(each)
    writer.close()
    return folder


def test_the_last_row_of_every_key_is_taken_over_without_its_body(tmp_path: Path) -> None:
    failed, fetched = row("a", "failed", reason="timeout"), row("a")
    rows = list(PreviousCrawl(journal(tmp_path, failed, row("b"), fetched)).rows())
    assert [(each.key, each.outcome, each.body) for each in rows] == [("b", "fetched", None), ("a", "fetched", None)]


def test_transient_failures_are_tried_again_and_proven_ones_are_not(tmp_path: Path) -> None:
    previous = PreviousCrawl(
        journal(
            tmp_path,
            row("slow", "failed", reason="timeout", depth=3),
            row("busy", "failed", reason="http_503"),
            row("forbidden", "failed", reason="http_403"),
            row("gone", "rejected", reason="not_found"),
            row("page"),
        )
    )
    assert [(request.url, request.depth) for request in previous.retries()] == [("slow", 3), ("busy", 1)]
    replaced = [key for key in ("slow", "busy", "forbidden", "gone", "page") if previous.was_replaced(key)]
    assert replaced == ["slow", "busy"]


def test_a_start_url_that_has_an_answer_is_not_asked_again(tmp_path: Path) -> None:
    previous = PreviousCrawl(journal(tmp_path, row("start", "redirected", redirect_to="home"), row("home")))
    start = previous.start_row("start")
    assert start is not None
    assert (start.redirect_to, previous.was_replaced("start")) == ("home", False)


def test_a_start_url_without_an_answer_is_asked_as_a_start_and_not_twice(tmp_path: Path) -> None:
    previous = PreviousCrawl(journal(tmp_path, row("start", "failed", reason="dns")))
    assert previous.start_row("start") is None
    assert previous.start_row("other") is None
    assert list(previous.retries()) == []
    assert (previous.was_replaced("start"), previous.was_replaced("other")) == (True, True)


def test_pages_come_back_with_their_bodies_and_links_of_others_with_their_rows(tmp_path: Path) -> None:
    hidden = row("hidden", "rejected", reason="noindex", links=("x", "y"))
    previous = PreviousCrawl(journal(tmp_path, row("page"), hidden, row("same", "unchanged")))
    assert [(each.key, each.body) for each in previous.fetched_pages()] == [("page", b"<p>text")]
    assert [tuple(each.links or ()) for each in previous.rows()] == [(), ("x", "y"), ()]


def test_an_empty_journal_leaves_everything_to_be_done(tmp_path: Path) -> None:
    previous = PreviousCrawl(tmp_path / "none")
    assert (list(previous.rows()), list(previous.retries()), list(previous.fetched_pages())) == ([], [], [])
    assert previous.start_row("start") is None
