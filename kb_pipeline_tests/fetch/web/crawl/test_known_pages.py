"""What an earlier refresh stored, looked up by key."""

from __future__ import annotations

from pathlib import Path

import pytest

from kb_pipeline.fetch.web.crawl.known_pages import KnownPages
from kb_pipeline_tests.fetch.web.conftest import known_file


@pytest.fixture
def known(tmp_path: Path) -> KnownPages:
    pages = [{"key": f"http://a/{number}", "etag": f'"{number}"', "lastmod": str(number)} for number in range(2000)]
    failed = {"key": "http://a/failed", "sha256": None, "reason": "timeout", "message": "no byte"}
    failed["outcome"] = "failed"
    redirect = {"key": "http://a/redirect", "sha256": None, "outcome": "redirected", "redirect_to": "http://a/7"}
    return KnownPages(known_file(tmp_path / "known.parquet", *pages, failed, redirect))


def test_a_key_is_found_with_all_that_is_known_of_it(known: KnownPages) -> None:
    page = known.get("http://a/1234")
    assert page is not None
    assert (page.key, page.etag, page.lastmod, page.reason) == ("http://a/1234", '"1234"', "1234", None)
    assert len(known) == 2002


def test_what_gave_no_page_is_known_too(known: KnownPages) -> None:
    for key, has, has_page in (
        ("http://a/7", True, True),
        ("http://a/failed", True, False),
        ("http://a/redirect", True, False),
        ("http://a/new", False, False),
    ):
        found = (known.has(key), known.has_page(key), known.get(key) is not None)
        assert found == (has, has_page, has), key
    assert known.pages_with_bytes == 2000


def test_what_a_server_said_is_told_from_what_our_own_rules_decided(tmp_path: Path) -> None:
    rejected = {"sha256": None, "outcome": "rejected"}
    rows = ({"key": f"http://a/{reason}", "reason": reason, **rejected} for reason in ("not_found", "excluded"))
    known = KnownPages(known_file(tmp_path / "known.parquet", *rows))
    asked = [page.was_asked for key in ("not_found", "excluded") if (page := known.get(f"http://a/{key}"))]
    assert asked == [True, False]


def test_urgent_pages_come_first_and_each_once(known: KnownPages) -> None:
    order = [page.key for page in known.pages(lambda page: page.lastmod in ("5", "1999"))]
    assert order[:3] == ["http://a/5", "http://a/1999", "http://a/0"]
    assert len(order) == len(set(order)) == 2000


def test_what_a_quota_left_out_is_asked_for_with_the_stored_pages_and_has_no_bytes(tmp_path: Path) -> None:
    left_out = {"key": "http://a/left", "sha256": None, "outcome": "failed", "reason": "quota"}
    refused = {"key": "http://a/gone", "sha256": None, "outcome": "rejected", "reason": "not_found"}
    known = KnownPages(known_file(tmp_path / "known.parquet", left_out, {"key": "http://a/kept"}, refused))
    assert [page.key for page in known.pages(lambda _: True)] == ["http://a/left", "http://a/kept"]
    assert [page.key for page in known.stored()] == ["http://a/kept"]


def test_without_a_file_nothing_is_known() -> None:
    nothing = KnownPages(None)
    assert (len(nothing), nothing.has("http://a/"), nothing.get("http://a/")) == (0, False, None)
    assert list(nothing.pages(lambda _: True)) == []
