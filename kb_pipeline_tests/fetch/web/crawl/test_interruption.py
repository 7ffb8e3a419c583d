"""Cancelled, killed and resumed: nothing kept is lost, nothing is asked for twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from kb_pipeline.errors import ChildCrashed
from kb_pipeline.fetch.journal import segments
from kb_pipeline.fetch.web.crawl.journal import JournalWriter, read_outcomes
from kb_pipeline.fetch.web.crawl.process import crawl
from kb_pipeline.host_scheduler import LocalHostScheduler
from kb_pipeline_tests.fetch.web.conftest import child_of, files_at, rules_for
from kb_pipeline_tests.fetch.web.site import Page, Site

PAGES = 100
IN_FLIGHT = 16
_PARENT = """
import json, signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may have it ignored
from kb_pipeline.fetch.web.crawl.process import crawl
from kb_pipeline.fetch.web.rules import CrawlFiles, CrawlRules
from kb_pipeline.host_scheduler import LocalHostScheduler
journal = Path(sys.argv[2])
crawl(
    CrawlRules.from_json(json.loads(sys.argv[1])), CrawlFiles(journal, journal.parent / "notes"),
    lambda done, total: None, LocalHostScheduler(),
)
"""


@pytest.fixture
def big_site(site: Site) -> Site:
    """Serve a chain of folders, so that discovery continues while pages are fetched."""
    for number in range(PAGES):
        site.link(f"/p{number}", *(f"/p{n}" for n in range(number * 4 + 1, number * 4 + 5) if n < PAGES))
        body = site.pages[f"/p{number}"].body  # type: ignore[union-attr]
        site.pages[f"/p{number}"] = Page(body, hang_s=0.5)
    return site


def _kept(journal: Path) -> set[str]:
    return set(read_outcomes(journal).column("key").to_pylist())


def _parent(site: Site, journal: Path) -> subprocess.Popen[bytes]:
    rules = json.dumps(rules_for(site.url + "/p0").as_json())
    return subprocess.Popen([sys.executable, "-c", _PARENT, rules, str(journal)], stderr=subprocess.DEVNULL)


def _wait_until(condition: object, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _assert_complete_and_frugal(site: Site, journal: Path, extra: int) -> None:
    assert _kept(journal) == {f"{site.url}/p{number}" for number in range(PAGES)}
    asked = Counter(path for path in site.paths() if path != "/robots.txt")
    assert sum(asked.values()) <= PAGES + extra


def test_interrupting_the_caller_flushes_and_a_second_crawl_goes_on(big_site: Site, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    parent = _parent(big_site, journal)
    _wait_until(lambda: len(big_site.hits) > 35)
    parent.send_signal(signal.SIGINT)
    assert parent.wait(15) != 0
    answered = {f"{big_site.url}{path}" for path in big_site.paths() if path != "/robots.txt"}
    assert _kept(journal) == answered, "what was in flight came to its end and was flushed"
    summary = crawl(rules_for(big_site.url + "/p0"), files_at(journal), lambda done, total: None, LocalHostScheduler())
    assert summary.finished
    assert summary.outcomes == {"fetched": PAGES}
    _assert_complete_and_frugal(big_site, journal, extra=0)


def test_an_exception_in_the_caller_stops_the_child(big_site: Site, tmp_path: Path) -> None:
    class Cancelled(BaseException):
        pass

    def progress(done: int, total: int | None) -> None:
        if done > 20:
            raise Cancelled

    with pytest.raises(Cancelled):
        crawl(rules_for(big_site.url + "/p0"), files_at(tmp_path), progress, LocalHostScheduler())
    assert 20 < len(_kept(tmp_path)) < PAGES
    assert len(big_site.hits) == len(_kept(tmp_path)) + 1


def test_a_killed_child_is_reported_and_its_crawl_resumed(big_site: Site, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    killed: list[int] = []

    def kill(done: int, total: int | None) -> None:
        if done > 35 and not killed:
            child = child_of(os.getpid())
            os.kill(child, signal.SIGKILL)
            killed.append(child)

    with pytest.raises(ChildCrashed):
        crawl(rules_for(big_site.url + "/p0"), files_at(journal), kill, LocalHostScheduler())
    (journal / "000099.tmp").write_bytes(b"PAR1 torn")
    JournalWriter(journal).close()
    lost = len(big_site.hits) - 1 - len(_kept(journal))
    summary = crawl(rules_for(big_site.url + "/p0"), files_at(journal), lambda done, total: None, LocalHostScheduler())
    assert summary.outcomes == {"fetched": PAGES}
    assert lost <= IN_FLIGHT
    _assert_complete_and_frugal(big_site, journal, extra=lost)
    assert not list(journal.glob("*.tmp"))


def test_killed_twenty_times_no_page_is_fetched_twice_but_those_in_flight(site: Site, tmp_path: Path) -> None:
    pages, kills, chance = 600, 20, random.Random(4)
    for number in range(pages):
        site.link(f"/p{number}", *(f"/p{n}" for n in range(number * 4 + 1, number * 4 + 5) if n < pages))
        site.pages[f"/p{number}"] = replace(site.pages[f"/p{number}"], hang_s=0.2)  # type: ignore[type-var]
    killed = 0
    while killed < kills:
        moment: list[float] = []

        def kill(done: int, total: int | None, moment: list[float] = moment) -> None:
            if not moment:
                moment.append(time.monotonic() + chance.uniform(0, 0.4))
            elif time.monotonic() > moment[0]:
                os.kill(child_of(os.getpid()), signal.SIGKILL)

        with pytest.raises(ChildCrashed):
            crawl(rules_for(site.url + "/p0"), files_at(tmp_path), kill, LocalHostScheduler())
        killed += 1
        JournalWriter(tmp_path).close()
        asked = {site.url + path for path in site.paths()} - {site.url + "/robots.txt"}
        assert len(asked - _kept(tmp_path)) <= IN_FLIGHT
    assert len(_kept(tmp_path)) < pages, "the last kill came before the end"
    assert crawl(
        rules_for(site.url + "/p0"), files_at(tmp_path), lambda done, total: None, LocalHostScheduler()
    ).finished
    assert _kept(tmp_path) == {f"{site.url}/p{number}" for number in range(pages)}
    asked_for = Counter(path for path in site.paths() if path != "/robots.txt")
    assert sum(asked_for.values()) <= pages + kills * IN_FLIGHT


def test_the_child_dies_with_its_parent(big_site: Site, tmp_path: Path) -> None:
    parent = _parent(big_site, tmp_path)
    _wait_until(lambda: len(big_site.hits) > 20)
    child = child_of(parent.pid)
    parent.kill()
    parent.wait()
    _wait_until(lambda: not _is_running(child))
    assert segments(tmp_path), "it flushed before it went"
    assert len(big_site.hits) < PAGES
