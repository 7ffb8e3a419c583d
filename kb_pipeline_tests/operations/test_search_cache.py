"""The same search of the same data is done once; of another tenant, request or version it is another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import kb_pipeline
from kb_pipeline.installation import Installation
from kb_pipeline.model import KbKey
from kb_pipeline_tests.operations.home import Home, quick_refreshes
from kb_pipeline_tests.site import Site, plant_orchard, serve_site

OURS, THEIRS = KbKey("acme", "docs"), KbKey("globex", "docs")


class Lookups:
    """Counts what was looked for, by cache and outcome."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, bool]] = Counter()
        self.answers: list[tuple[str, str]] = []

    def note_lookup(self, cache: str, *, is_hit: bool) -> None:
        self.counts[cache, is_hit] += 1

    def note_answer(self, mode: str, verdict: str) -> None:
        self.answers.append((mode, verdict))

    def taken(self) -> dict[tuple[str, bool], int]:
        """Return the counts since the last call."""
        counts, self.counts = self.counts, Counter()
        return dict(counts)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serve_site() as served:
        plant_orchard(served)
        yield served


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, site: Site) -> Home:
    found = Home(tmp_path_factory.mktemp("cache") / "home", models_dir)
    with quick_refreshes():
        for key in (OURS, THEIRS):
            found.apply(site, key)
            assert found.refresh(key).status == "ready"
    return found


@pytest.fixture
def lookups() -> Lookups:
    return Lookups()


@pytest.fixture
def opened(home: Home, lookups: Lookups) -> Iterator[Installation]:
    with kb_pipeline.open(settings=home.settings) as installation:
        installation.observe(lookups)
        yield installation


def test_the_same_search_is_done_once_and_gives_the_same(opened: Installation, lookups: Lookups) -> None:
    first = opened.kb(OURS).search("where do apples keep", k=3)
    assert lookups.taken() == {("searches", False): 1, ("query_vectors", False): 1}
    again = opened.kb(OURS).search("where do apples keep", k=3)
    assert lookups.taken() == {("searches", True): 1}
    assert (list(again), again.version, again.ranked) == (list(first), first.version, first.ranked)
    assert again.passages == first.passages
    again.clear()
    assert list(opened.kb(OURS).search("where do apples keep", k=3)) == list(first), "a caller's list is its own"


def test_another_request_is_another_search_of_the_same_vector(opened: Installation, lookups: Lookups) -> None:
    kb = opened.kb(OURS)
    kb.search("apples", k=3)
    lookups.taken()
    kb.search("apples", k=4)
    kb.search("apples", k=3, offset=1)
    kb.search("apples", k=3, language="de")
    kb.search("apples", k=3, filters={"type": "eq", "key": "language", "value": "en"})
    kb.search("apples", k=3, provenance=True)
    kb.search("apples", k=3, context=1)
    assert lookups.taken() == {("searches", False): 6, ("query_vectors", True): 5}, "nothing is in German"
    kb.search("apples", k=3, mode="keyword")
    assert lookups.taken() == {("searches", False): 1}


def test_nothing_is_shared_between_tenants(opened: Installation, lookups: Lookups) -> None:
    opened.kb(OURS).search("what is secret")
    lookups.taken()
    opened.kb(THEIRS).search("what is secret")
    assert lookups.taken() == {("searches", False): 1, ("query_vectors", False): 1}


def test_a_version_that_is_published_is_searched_anew(
    opened: Installation, lookups: Lookups, home: Home, site: Site
) -> None:
    before = opened.kb(OURS).search("slivovitz", mode="keyword")
    assert list(before) == []
    site.put("/plums", "Plums", "Plums are distilled into a clear brandy that is called slivovitz.")
    with quick_refreshes():
        assert home.refresh(OURS).version == 2
    lookups.taken()
    assert opened.kb(OURS).search("slivovitz", mode="keyword")[0].title == "Plums"
    assert list(opened.kb(OURS).search("slivovitz", mode="keyword", as_of=1)) == []
    assert lookups.taken() == {("searches", False): 1, ("searches", True): 1}


def test_answers_are_counted_by_verdict(opened: Installation, lookups: Lookups) -> None:
    answer = opened.kb(OURS).answer("Where do apples keep for months?")
    assert lookups.answers == [("extractive", answer.verdict)]
