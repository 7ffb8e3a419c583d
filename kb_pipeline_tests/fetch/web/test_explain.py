"""What the rules of a crawl decide about a URL that nobody asks for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kb_pipeline.fetch.source import Decision, Traces
from kb_pipeline.fetch.web.crawl.robots_cache import StoredRobots
from kb_pipeline.fetch.web.crawl.sessions import SESSIONS_FILE, Sessions
from kb_pipeline.fetch.web.crawl.traps import TRAPS_FILE, TrapFilter
from kb_pipeline.fetch.web.explain import explain_url
from kb_pipeline.fetch.web.link_graph import LinksOfPage, add_rows
from kb_pipeline.fetch.web.rules import CrawlRules
from kb_pipeline.store.paths import LINKS_FILE

HOST = "https://docs.example.com"
RULES = CrawlRules(
    source="site", start_urls=(f"{HOST}/",), sitemap="auto", scope="host", include=(), exclude=(), max_pages=10,
    max_depth=2, delay_s=1.0, user_agent="kb/1.0", allowed_networks=(),
)  # fmt: skip


def traces(folder: Path, redirects: dict[str, str] | None = None, *, kept: int = 0, has_bytes: bool = False) -> Traces:
    return Traces(folder, (redirects or {}).get, kept, has_bytes)


def decisions(url: str, found: Traces, rules: CrawlRules = RULES) -> dict[str, Decision]:
    return {each.rule: each for each in explain_url(rules, url, found).decisions}


def test_a_redirect_counts_as_no_step_of_the_chain(tmp_path: Path) -> None:
    add_rows(
        tmp_path / LINKS_FILE,
        [
            LinksOfPage(f"{HOST}/", "0", [f"{HOST}/moved"]),
            LinksOfPage(f"{HOST}/moved", None, [f"{HOST}/here"], is_redirect=True),
            LinksOfPage(f"{HOST}/here", "1", [f"{HOST}/next"]),
        ],
    )
    view = explain_url(RULES, f"{HOST}/next", traces(tmp_path))
    assert view.chain == tuple(f"{HOST}{path}" for path in ("/", "/moved", "/here", "/next"))
    assert (view.depth, view.linked_from) == (2, (f"{HOST}/here",))


def test_the_place_that_a_start_url_redirects_to_is_in_scope(tmp_path: Path) -> None:
    elsewhere = "https://www.example.com/guide"
    assert decisions(elsewhere, traces(tmp_path))["scope"].allows is False
    moved = {f"{HOST}/": "https://www.example.com/start"}
    assert decisions(elsewhere, traces(tmp_path, moved))["scope"].allows is True


def test_a_host_that_is_written_as_a_closed_address_is_refused(tmp_path: Path) -> None:
    for url in ("http://10.0.0.1/x", "http://[::1]/x"):
        assert decisions(url, traces(tmp_path))["address"].reason == "blocked_address"
    opened = replace(RULES, allowed_networks=("10.0.0.0/8",))
    assert "address" not in decisions("http://10.0.0.1/x", traces(tmp_path), opened)


def test_a_full_source_has_room_for_what_it_keeps_and_for_nothing_else(tmp_path: Path) -> None:
    url = f"{HOST}/one"
    assert decisions(url, traces(tmp_path, kept=10))["max_pages"].reason == "max_pages"
    assert "max_pages" not in decisions(url, traces(tmp_path, kept=10, has_bytes=True))
    assert "max_pages" not in decisions(url, traces(tmp_path, kept=9))


def test_a_url_like_those_that_led_to_nothing_waits(tmp_path: Path) -> None:
    traps = TrapFilter(RULES.limits, lambda *_: False, tmp_path / TRAPS_FILE)
    for number in range(200):
        traps.charge(f"{HOST}/calendar?day={number}")
    traps.save()
    waits = decisions(f"{HOST}/calendar?day=9999", traces(tmp_path))["limits.repetitive_pages"]
    assert (waits.allows, waits.reason) == (False, "repetitive")
    assert "docs.example.com/calendar?day" in waits.said
    assert "limits.repetitive_pages" not in decisions(f"{HOST}/calendar?day=9999", traces(tmp_path, has_bytes=True))
    assert "limits.repetitive_pages" not in decisions(f"{HOST}/", traces(tmp_path))


def test_another_session_is_another_spelling_of_the_page(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path / SESSIONS_FILE)
    for page in ("a", "b"):
        for token in ("q7Zk29fLm3Xw81TbR4", "m2Nc84hYp9Qv53GdJ6"):
            url = f"{HOST}/{page}?visit={token}"
            sessions.visit(url)
            sessions.learn(url, (hash(page) & 0xFFFF,))
    sessions.save()
    third = decisions(f"{HOST}/a?visit=t5Wb63kEz8Rn17VsH2", traces(tmp_path))["session"]
    assert (third.allows, third.reason) == (False, None)
    assert f"from {HOST}/a?visit=q7Zk29fLm3Xw81TbR4, which stands for it" in third.said
    assert "session" not in decisions(f"{HOST}/c?visit=t5Wb63kEz8Rn17VsH2", traces(tmp_path))


def test_robots_txt_is_read_however_old_it_is(tmp_path: Path) -> None:
    StoredRobots(tmp_path).save(HOST, b"User-agent: *\nDisallow: /closed\n")
    assert decisions(f"{HOST}/closed/x", traces(tmp_path))["robots.txt"].line == "2: Disallow: /closed"
    assert decisions("https://other.example/x", traces(tmp_path))["robots.txt"].allows is None


@pytest.mark.parametrize("torn", [b"", b"{", b"\xff" * 100])
def test_torn_notes_are_as_none(tmp_path: Path, torn: bytes) -> None:
    for name in (LINKS_FILE, TRAPS_FILE):
        (tmp_path / name).write_bytes(torn)
    view = explain_url(RULES, f"{HOST}/x", traces(tmp_path))
    assert (view.chain, view.depth) == ((), None)
