"""Loss needs proof: bytes that are no page leave the last good document, and are said to have failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from kb_pipeline.clean.html.document import read_html
from kb_pipeline.clean.refresh import failed_documents
from kb_pipeline.clean.rules import CleaningRules
from kb_pipeline.clean.signs import is_error_page
from kb_pipeline.model import Document, Rejected
from kb_pipeline_tests.clean.pages import raw
from kb_pipeline_tests.clean.stored_site import ORIGIN, StoredSite, page, prose


@pytest.fixture
def site(tmp_path: Path) -> StoredSite:
    stored = StoredSite(tmp_path)
    stored.put({"/": page("Start", prose("start")), "/a": page("Apples", prose("a"))})
    stored.refresh()
    return stored


EMPTY = "<html><head><title>Apples</title></head><body></body></html>"
SHELL = "<html><head><title>Apples</title></head><body><div id=root></div><script>start()</script></body></html>"
BROKEN = {
    "no_text": EMPTY,
    "needs_javascript": SHELL,
    "error_page": page("Service unavailable", "<p>We are down for maintenance. Be back soon.</p>"),
}


def test_a_log_in_that_stands_in_the_place_of_a_page_keeps_it(site: StoredSite) -> None:
    site.put({"/a": page("Log in", "<form><input type=password></form><p>Please log in to go on.</p>")})
    site.refresh()
    assert "Log in" not in (site.text("/a") or "")
    assert [failure["reason"] for failure in failed_documents(site.store)] == ["login_page"]


@pytest.mark.parametrize("reason", BROKEN)
def test_bytes_that_are_no_page_keep_the_last_good_document_and_are_a_failure(site: StoredSite, reason: str) -> None:
    good = site.text("/a")
    site.put({"/a": BROKEN[reason]})
    report = site.refresh()
    assert site.documents() == {"/", "/a"}
    assert site.text("/a") == good
    assert report.extra["kept_last_good"] == 1
    (failure,) = failed_documents(site.store)
    assert (failure["key"], failure["outcome"], failure["reason"]) == (f"{ORIGIN}/a", "failed", reason)


def test_a_document_that_is_no_longer_readable_by_its_type_is_kept(site: StoredSite) -> None:
    site.put({"/a": "\x89PNG"}, content_type="image/png")
    site.refresh()
    assert site.documents() == {"/", "/a"}
    assert [failure["reason"] for failure in failed_documents(site.store)] == ["content_type"]


def test_the_same_bad_bytes_are_not_cleaned_again_and_others_are(site: StoredSite) -> None:
    site.put({"/a": EMPTY})
    assert site.refresh().unchanged == 1
    assert site.refresh().unchanged == 2
    site.put({"/a": SHELL})
    assert site.refresh().unchanged == 1
    assert [failure["reason"] for failure in failed_documents(site.store)] == ["needs_javascript"]


@pytest.mark.parametrize("text", ["a", "b"], ids=["as it was", "changed"])
def test_a_failure_ends_when_the_page_is_back(site: StoredSite, text: str) -> None:
    site.put({"/a": EMPTY})
    site.refresh()
    site.put({"/a": page("Apples", prose(text))})
    site.refresh()
    assert not list(failed_documents(site.store))
    assert site.documents() == {"/", "/a"}


LOGIN = page("Log in", "<form><input type=password></form><p>Please log in to go on.</p>")
NOTICES = {
    "error_page": page("Page not found", "<p>Sorry, the page you are looking for does not exist.</p>"),
    "bot_wall": page("Just a moment...", "<h1>Checking your browser</h1><p>Verify you are human to go on.</p>"),
    "login_page": LOGIN,
    "redirect": page("Moved", "<p>moved</p>", head='<meta http-equiv="refresh" content="0; url=/new">'),
}


@pytest.mark.parametrize("reason", NOTICES)
def test_a_notice_is_no_document_at_the_first_build_either(site: StoredSite, reason: str) -> None:
    site.put({"/n": NOTICES[reason]})
    report = site.refresh()
    assert site.documents() == {"/", "/a"}
    assert report.rejected == {reason: 1}
    (failure,) = failed_documents(site.store)
    assert (failure["key"], failure["reason"]) == (f"{ORIGIN}/n", reason)


def test_who_names_a_log_in_or_keeps_all_views_gets_it_but_no_wall(site: StoredSite) -> None:
    site.put({"/account": LOGIN, "/missing": NOTICES["error_page"]}, depth=0)
    site.refresh()
    assert site.documents() == {"/", "/a", "/account"}
    site.put({"/other": LOGIN, "/gone": NOTICES["error_page"], "/wall": NOTICES["bot_wall"]})
    assert site.refresh(keep_views=True).rejected["bot_wall"] == 1
    assert {"/other", "/gone"} <= site.documents()


def test_a_wall_without_words_is_no_page_for_scripts() -> None:
    html = (
        "<html><head><title>acme.com</title></head><body><script src='/_Incapsula_Resource?x=1'></script></body></html>"
    )
    result = read_html(raw(html), CleaningRules())
    assert isinstance(result, Rejected)
    assert result.reason == "bot_wall"


@pytest.mark.parametrize(
    ("html", "target"),
    [
        ("<META HTTP-EQUIV=Refresh CONTENT=\"0;URL='new.html'\"><p>moved", "https://site.test/new.html"),
        ("<script>location.replace('/new')</script><noscript><meta http-equiv=refresh content='0;/new'></noscript>",
         "https://site.test/new"),
        ("<title>Moved</title><body onload='location.href = next()'>Redirecting", "a place that its script computes"),
    ],
)  # fmt: skip
def test_a_file_that_sends_its_readers_on_is_no_document(html: str, target: str) -> None:
    result = read_html(raw(html, url="https://site.test/old.html"), CleaningRules())
    assert isinstance(result, Rejected)
    assert (result.reason, result.message) == ("redirect", f"it sends its readers on to {target}")


@pytest.mark.parametrize(
    "head", ['<meta http-equiv="refresh" content="300">', '<meta http-equiv=refresh content="0;#top">']
)
def test_a_page_that_loads_itself_again_is_a_document(head: str) -> None:
    assert isinstance(read_html(raw(page("Status", prose("a"), head=head)), CleaningRules()), Document)


def test_noindex_ends_a_document(site: StoredSite) -> None:
    site.put({"/a": page("Apples", prose("a"), head="<meta name=robots content=noindex>")})
    site.refresh()
    assert site.documents() == {"/"}


def test_a_page_that_always_read_like_an_error_changes_as_any_other(site: StoredSite) -> None:
    site.put({"/errors/404": page("404 Not Found", "<p>Sent when there is no such item.</p>")})
    site.refresh()
    site.put({"/errors/404": page("404 Not Found", "<p>Sent when an item was deleted.</p>")})
    site.refresh()
    assert "deleted" in (site.text("/errors/404") or "")
    assert not list(failed_documents(site.store))


def test_a_page_that_speaks_of_an_error_after_an_edit_is_no_error_page(site: StoredSite) -> None:
    site.put({"/get": page("get(key)", "<p>Returns the value of the key.</p>")})
    site.refresh()
    site.put({"/get": page("get(key)", "<p>Returns the value of the key.</p><p>Raises KeyError if not found.</p>")})
    site.refresh()
    assert "KeyError" in (site.text("/get") or "")


@pytest.mark.parametrize(
    ("title", "text"),
    [
        ("404", "Gone away."), ("Error 503", "Try later"), ("Page not found", ""),
        ("Acme", "# Access denied\n\nSorry."),
        ("Seite nicht gefunden", ""), ("Accès refusé", ""), ("Страница не найдена", ""), ("页面不存在", ""),
        ("ページが見つかりません", ""), ("Acme", "We are sorry: this site is down for maintenance."),
        ("الصفحة غير موجودة", ""),
        ("Página no encontrada", ""), ("오류가 발생했습니다", ""), ("Acme", "Internal Server Error"),
    ],
)  # fmt: skip
def test_short_notices_of_errors_are_recognized_in_many_languages(title: str, text: str) -> None:
    assert is_error_page(title, text)


@pytest.mark.parametrize(
    ("title", "text"),
    [
        ("Apples", "Apples are sweet."), ("Lost and found", "We found a cat."), ("500 recipes", "Bake them."),
        ("Not found: a novel", "word " * 200), ("get", "Returns the value of a key. " * 8 + "Raises if not found."),
    ],
)  # fmt: skip
def test_other_pages_are_no_error_pages(title: str, text: str) -> None:
    assert not is_error_page(title, text)
