"""When a value that looks random is a session, and when it names a page."""

from __future__ import annotations

from pathlib import Path

import pytest

from kb_pipeline.fetch.web.crawl.sessions import Sessions
from kb_pipeline_tests.fetch.web.crawl.shapes import Query, ShapedSite, html, links, text, title
from kb_pipeline_tests.fetch.web.crawl.test_crawler import Crawl
from kb_pipeline_tests.fetch.web.scripted import SITE, ScriptedSite

TOKENS = ("a8f3c9d2", "77ab1c0d", "b0c4d5e6f7", "0f9e8d7c6b")


class Learner:
    """What is learned of the pages of one host."""

    def __init__(self, path: Path | None = None) -> None:
        self.sessions = Sessions(path)

    def read(self, path: str, signature: int) -> None:
        url = f"https://example.com{path}"
        self.sessions.visit(url)
        self.sessions.learn(url, (signature, signature + 1000))

    def spelling(self, path: str) -> str:
        return self.sessions.spelling(f"https://example.com{path}").removeprefix("https://example.com")


@pytest.mark.parametrize("form", ["/{page}?visit={token}", "/s/{token}/{page}", "/(S({token}))/{page}.aspx"])
def test_one_text_under_two_values_of_two_pages_proves_a_session(form: str) -> None:
    learner = Learner()
    for page, signature in (("saws", 1), ("drills", 2)):
        assert learner.spelling(form.format(page=page, token=TOKENS[2])) == form.format(page=page, token=TOKENS[2])
        for token in TOKENS[:2]:
            learner.read(form.format(page=page, token=token), signature)
    assert learner.spelling(form.format(page="saws", token=TOKENS[2])) == form.format(page="saws", token=TOKENS[0])
    assert learner.spelling(form.format(page="nails", token=TOKENS[2])) == form.format(page="nails", token=TOKENS[2])


def test_two_texts_under_two_values_refute_it_for_good() -> None:
    learner = Learner()
    learner.read(f"/watch?v={TOKENS[0]}", 1)
    learner.read(f"/watch?v={TOKENS[1]}", 2)
    for page in ("a", "b", "c"):
        learner.read(f"/{page}?v={TOKENS[0]}", 3)
        learner.read(f"/{page}?v={TOKENS[1]}", 3)
    assert learner.spelling(f"/watch?v={TOKENS[2]}") == f"/watch?v={TOKENS[2]}"


def test_pages_that_all_say_the_same_prove_nothing() -> None:
    learner = Learner()
    for page in ("full", "short"):
        for token in TOKENS:
            learner.read(f"/paper/{token}/{page}", 5)
    assert learner.spelling(f"/paper/{'c1d2e3f4'}/full") == "/paper/c1d2e3f4/full"


def test_numbers_and_words_are_no_sessions() -> None:
    learner = Learner()
    for page, signature in (("a", 1), ("b", 2)):
        for value in ("1", "2", "summer"):
            learner.read(f"/{page}?issue={value}", signature)
    assert learner.spelling("/a?issue=3") == "/a?issue=3"


def test_what_was_learned_is_kept_on_disk(tmp_path: Path) -> None:
    learner = Learner(tmp_path / "sessions.json")
    for page, signature in (("saws", 1), ("drills", 2)):
        for token in TOKENS[:2]:
            learner.read(f"/{page}?visit={token}", signature)
    learner.sessions.save()
    assert Learner(tmp_path / "sessions.json").spelling(f"/saws?visit={TOKENS[3]}") == f"/saws?visit={TOKENS[0]}"
    (tmp_path / "sessions.json").write_bytes(b"torn")
    assert Learner(tmp_path / "sessions.json").spelling(f"/saws?visit={TOKENS[3]}") == f"/saws?visit={TOKENS[3]}"


def test_a_site_with_another_session_at_each_visit_is_crawled_once(tmp_path: Path) -> None:
    visits = iter(range(10_000))

    def shape(path: str, query: Query) -> str | None:
        name = path.rpartition("/")[2] or "0"
        if not name.isdecimal() or int(name) >= 60:
            return None
        session, number = f"(S({next(visits)}x1y2z3))", int(name)
        targets = ((f"/{session}/unit/{(number + step) % 60}", title(f"{number + step}")) for step in (1, 7, 30))
        return html(text(f"unit {number}"), links(*targets))

    site = ScriptedSite()
    site.answers = ShapedSite(shape)  # type: ignore[assignment]  # only its get is used
    outcomes = Crawl(tmp_path, site)(max_depth=200)
    kept = [path for path, outcome in outcomes.items() if outcome == "fetched"]
    assert {path.rpartition("/")[2] or "0" for path in kept} == {str(number) for number in range(60)}
    assert len(kept) < 100
    assert SITE + "/" in site.asked
