"""A refresh costs what changed and loses nothing, whatever the site or the KB file does."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kb_pipeline.chunk import rules as chunk_rules
from kb_pipeline.clean import rules as clean_rules
from kb_pipeline.control.runs.failures import list_failures
from kb_pipeline.model import KbKey, document_id
from kb_pipeline.operations.approve import approve_version
from kb_pipeline.operations.rollback import rollback_kb
from kb_pipeline.store.stage_tables import DOCUMENTS, INDEX_PREFIX
from kb_pipeline_tests.databases import copy_home
from kb_pipeline_tests.operations.home import KEY, Home, quick_refreshes
from kb_pipeline_tests.site import Site, serve_site

pytestmark = pytest.mark.xdist_group("incremental")  # one worker builds what the module's tests share

FRUITS = ("apple", "cherry", "fig", "medlar", "peach", "pear", "plum", "quince", "sloe")
QUERY = "how is the quince stored"
WORDS = [
    "cellar",
    "shelf",
    "basket",
    "frost",
    "blossom",
    "graft",
    "rootstock",
    "ladder",
    "orchard",
    "harvest",
    "press",
    "cider",
    "barrel",
    "jam",
    "jelly",
    "syrup",
    "vinegar",
    "kernel",
    "stone",
    "skin",
    "bruise",
    "ripen",
    "pick",
    "prune",
    "branch",
    "bark",
    "moss",
    "bee",
    "hive",
    "meadow",
    "hedge",
    "drought",
    "hail",
    "mulch",
    "compost",
    "lime",
    "clay",
    "loam",
    "variety",
    "sapling",
    "crate",
    "market",
    "straw",
    "autumn",
    "spring",
    "winter",
    "summer",
]


def prose(seed: str, words: int = 60) -> str:
    draw = random.Random(seed)
    return f"The {seed} is told of here. " + " ".join(draw.choice(WORDS) for _ in range(words)) + "."


def plant(site: Site) -> None:
    """Ten pages: nine that only the first one links to."""
    site.pages.clear()
    for fruit in FRUITS:
        site.put(f"/{fruit}", fruit.title(), prose(fruit))
    site.put("/", "Orchard", prose("orchard"), tuple(f"/{fruit}" for fruit in FRUITS))


@pytest.fixture(scope="module")
def served() -> Iterator[Site]:
    with serve_site() as site:
        yield site


@pytest.fixture
def site(served: Site) -> Site:
    """As it was when version 1 was published."""
    served.status, served.redirects, served.everything, served.headers = {}, {}, None, dict
    plant(served)
    return served


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    with quick_refreshes():
        yield


@pytest.fixture(scope="module")
def first(served: Site, tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Path:
    """Return a home whose KB has version 1."""
    folder = tmp_path_factory.mktemp("first") / "home"
    home = Home(folder, models_dir)
    plant(served)
    home.apply(served)
    refreshed = home.refresh()
    assert (refreshed.ended, refreshed.worked) == (("ready", 1), (10, 10, 10)), refreshed.message
    home.db.dispose()
    return folder


@pytest.fixture
def home(first: Path, tmp_path: Path, models_dir: Path, site: Site) -> Home:
    copy_home(first, tmp_path / "home")
    return Home(tmp_path / "home", models_dir)


# -- only what changed


def test_another_chunking_asks_for_validators_and_cleans_nothing(home: Home, site: Site) -> None:
    home.apply(site, chunking={"strategy": "sliding_window", "max_tokens": 64, "overlap_tokens": 0})
    site.asked.clear()
    refreshed = home.refresh()
    assert (refreshed.ended, refreshed.cleaned, refreshed.chunked) == (("ready", 2), 0, 10)
    assert refreshed.stages["fetch"]["unchanged"] == 10
    assert not set(site.asked) & set(site.pages), "no body was sent"
    assert refreshed.embedded > 10


def test_another_model_embeds_the_same_chunks_beside_the_live_version(home: Home, site: Site) -> None:
    chunks, before = home.chunk_ids(), home.answers(None, QUERY)
    home.apply(site, embedding={"model": "multilingual-e5-small"})
    with home.begun() as kb:
        candidate = kb.build_candidate()
        assert candidate.status == "candidate", candidate.gates
        assert len(home.store().tables.names(INDEX_PREFIX)) == 2
        assert (home.live().version, home.answers(None, QUERY)) == (1, before)
        kb.publish()
    refreshed = home.last()
    assert (refreshed.ended, refreshed.worked) == (("ready", 2), (0, 0, 10))
    assert home.chunk_ids() == chunks
    assert (home.live().model.name, home.answers(1, QUERY)) == ("multilingual-e5-small", before)
    assert home.answers(None, QUERY) != before
    home.apply(site)
    refreshed = home.refresh()
    assert (refreshed.ended, refreshed.worked) == (("ready", 3), (0, 0, 0))
    assert home.answers(None, QUERY) == home.answers(1, QUERY) == before


@pytest.mark.parametrize(
    ("module", "name", "redone"),
    [(clean_rules, "CLEAN_VERSION", (10, 0, 0)), (chunk_rules, "CHUNK_VERSION", (0, 10, 0))],
)
def test_new_code_of_a_stage_redoes_that_stage_and_the_same_output_is_no_version(
    home: Home, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, redone: tuple[int, int, int]
) -> None:
    monkeypatch.setattr(module, name, "next")
    refreshed = home.refresh()
    assert (refreshed.ended, refreshed.worked) == (("unchanged", 1), redone)
    assert refreshed.stages["fetch"]["unchanged"] == 10
    refreshed = home.refresh()
    assert (refreshed.ended, refreshed.worked) == (("unchanged", 1), (0, 0, 0))
    assert list(home.statuses()) == [1]


def test_validators_that_are_always_new_prove_no_change(home: Home, site: Site) -> None:
    clock = itertools.count(1)

    def fresh() -> dict[str, str]:
        second = next(clock)
        return {"ETag": f'"{second}"', "Last-Modified": f"Sat, 21 Nov 2026 08:{second // 60:02}:{second % 60:02} GMT"}

    site.headers = fresh
    site.asked.clear()
    for _ in range(2):
        refreshed = home.refresh()
        assert (refreshed.ended, refreshed.worked) == (("unchanged", 1), (0, 0, 0))
        assert refreshed.stages["fetch"]["unchanged"] == 10
    assert {site.asked[path] for path in site.pages} == {2}, "the bytes came and were the same"
    assert list(home.statuses()) == [1]


def test_a_changed_sentence_of_a_long_page_costs_its_chunk(home: Home, site: Site) -> None:
    def manual(changed: str = "") -> str:
        sections = "".join(
            f"<h2>Section {n}</h2><p>{prose(f'section {n}', 150)} {changed if n == 7 else ''}</p>" for n in range(14)
        )
        return f"<html lang=en><head><title>Manual</title></head><body><h1>Manual</h1>{sections}</body></html>"

    site.pages["/quince"] = manual()
    long = home.refresh()
    assert long.ended == ("ready", 2), long.message
    assert long.embedded > 12
    site.pages["/quince"] = manual("Quinces ripen last of all.")
    refreshed = home.refresh()
    assert (refreshed.ended, refreshed.worked) == (("ready", 3), (1, 1, 1))
    assert "Quinces ripen last" in home.hits("Quinces ripen last of all")[0]["text"]


def test_kbs_of_a_tenant_share_vectors_and_tenants_do_not(home: Home, site: Site) -> None:
    for tenant, embedded in (("acme", 0), ("globex", 10)):
        key = KbKey(tenant, "copy")
        home.apply(site, key)
        refreshed = home.refresh(key)
        assert (refreshed.ended, refreshed.worked) == (("ready", 1), (10, 10, embedded))
        assert home.keys(key) == home.keys()


# -- what is no proof of an end


def check_recovered(home: Home, site: Site, before: str) -> None:
    """Check that with the site as it was the KB is as it was, with nothing embedded."""
    site.status, site.redirects, site.everything, site.headers = {}, {}, None, dict
    plant(site)
    refreshed = home.refresh()
    assert (refreshed.ended, refreshed.embedded) == (("unchanged", 1), 0), refreshed.message
    assert (home.answers(None, QUERY), home.failures()) == (before, {})
    assert home.refresh().worked == (0, 0, 0)


def test_pages_that_answer_503_are_kept_and_named(home: Home, site: Site) -> None:
    before = home.answers(None, QUERY)
    down = ("/apple", "/fig", "/pear", "/plum")
    site.status = dict.fromkeys(down, 503)
    refreshed = home.refresh()
    assert (refreshed.ended, refreshed.worked) == (("unchanged", 1), (0, 0, 0))
    assert "4 pages failed (http_503 4)" in refreshed.message
    assert home.failures() == dict.fromkeys(down, "http_503")
    assert (len(home.keys()), home.answers(None, QUERY)) == (10, before)
    check_recovered(home, site, before)


def test_a_page_that_keeps_failing_waits_and_says_until_when(home: Home, site: Site) -> None:
    site.status["/pear"] = 500
    for attempts in (1, 2, 3):
        home.refresh()
        (failure,) = list_failures(home.db, KEY)
        assert (failure.reason, failure.attempts) == ("http_500", attempts)
    assert "not asked for before" in failure.message
    asked = site.asked["/pear"]
    assert home.refresh().stages["fetch"]["failed"] == 1
    (waiting,) = list_failures(home.db, KEY)
    assert (site.asked["/pear"], waiting.attempts, waiting.last_seen) == (asked, 3, failure.last_seen)
    assert home.refresh(retry=True).stages["fetch"]["failed"] == 1
    (retried,) = list_failures(home.db, KEY)
    assert (site.asked["/pear"], retried.attempts) == (asked + 1, 4)


def test_a_key_that_is_named_is_asked_for_at_once_and_no_other(home: Home, site: Site) -> None:
    site.status = dict.fromkeys(("/pear", "/plum"), 500)
    for _ in range(3):
        home.refresh()
    site.answered.clear()
    home.refresh(retry_ids=[document_id("site", f"{site.url}/pear")])
    assert {path: site.answered[path] for path in ("/pear", "/plum")} == {"/pear": 1, "/plum": 0}
    home.refresh(retry_ids=["f" * 32])
    assert site.answered["/plum"] == 0
    home.refresh(retry=True)
    assert (site.answered["/pear"], site.answered["/plum"]) == (2, 1)


@pytest.mark.parametrize("body", [None, "<rss><channel><item>"], ids=["answers 500", "cut off"])
def test_a_broken_feed_that_a_page_also_links_to_is_one_failure_and_stops_nothing(
    home: Home, site: Site, body: str | None
) -> None:
    site.put("/", "Orchard", prose("orchard"), (*(f"/{fruit}" for fruit in FRUITS), "/feed.xml"))
    feed = "<link rel=alternate type=application/rss+xml href=/feed.xml>"
    site.pages["/"] = site.pages["/"].replace("<title>", f"{feed}<title>")
    site.pages["/robots.txt"] = f"Sitemap: {site.url}/feed.xml\n"
    if body is None:
        site.status["/feed.xml"] = 500
    else:
        site.pages["/feed.xml"] = body
    for _ in range(2):
        assert home.refresh().status != "failed"
        assert [row.key for row in list_failures(home.db, KEY)] == [f"{site.url}/feed.xml"]
    assert len(home.keys()) == 10


def test_an_empty_sitemap_ends_no_page(home: Home, site: Site) -> None:
    site.put("/", "Orchard", prose("orchard"))  # the sitemap alone leads to the other pages
    site.pages["/sitemap.xml"] = sitemap(f"{site.url}/{fruit}" for fruit in FRUITS)
    listed = home.refresh()
    assert listed.status == "ready", listed.message
    for empty, status in ((sitemap(()), 200), ("", 200), ("", 503)):
        site.pages["/sitemap.xml"], site.status["/sitemap.xml"] = empty, status
        refreshed = home.refresh()
        assert (refreshed.ended, refreshed.worked) == (("unchanged", 2), (0, 0, 0))
        assert len(home.keys()) == 10
    (problem,) = refreshed.stages["fetch"]["problems"]
    assert (problem["key"], problem["message"]) == (f"{site.url}/sitemap.xml", "sitemap: status 503")
    assert home.failures() == {"/sitemap.xml": "http_503"}
    site.status.clear()
    site.pages["/sitemap.xml"] = sitemap(f"{site.url}/{fruit}" for fruit in FRUITS)
    assert home.refresh().ended == ("unchanged", 2)


def sitemap(urls: Iterable[str]) -> str:
    listed = "".join(f"<url><loc>{url}</loc></url>" for url in urls)
    head = '<?xml version="1.0" encoding="UTF-8"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
    return f"{head}{listed}</urlset>"


def test_a_robots_txt_that_cannot_be_read_stops_asking_and_loses_nothing(home: Home, site: Site) -> None:
    before = home.answers(None, QUERY)
    site.status["/robots.txt"] = 500
    site.asked.clear()
    refreshed = home.refresh()
    assert refreshed.ended == ("failed", None)
    assert "robots_unreachable" in refreshed.message
    assert "status 500" in refreshed.message
    assert not set(site.asked) & set(site.pages)
    assert (len(home.keys()), home.answers(None, QUERY)) == (10, before)
    assert set(home.failures().values()) == {"robots_unreachable"}
    check_recovered(home, site, before)


@pytest.mark.parametrize(
    "text_of", [lambda path: "Access denied.", lambda path: f"Access denied to {path}."], ids=["one text", "by URL"]
)
def test_an_error_that_answers_200_everywhere_is_a_failure_and_the_documents_stay(
    home: Home, site: Site, text_of: Callable[[str], str]
) -> None:
    before, paths = home.answers(None, QUERY), set(site.pages)
    for path in paths:
        site.put(path, "Access denied", text_of(path))
    assert home.refresh().ended == ("unchanged", 1)
    assert home.failures() == dict.fromkeys(paths, "error_page")
    assert (len(home.keys()), home.answers(None, QUERY)) == (10, before)
    check_recovered(home, site, before)


@pytest.mark.parametrize(
    "text_of", [lambda path: "Come with a ticket.", lambda path: f"Come to {path} with a ticket."],
    ids=["one text", "by URL"],
)  # fmt: skip
def test_a_wall_that_answers_200_is_held_and_the_documents_stay(
    home: Home, site: Site, text_of: Callable[[str], str]
) -> None:
    before = home.answers(None, QUERY)
    for path in site.pages:
        site.put(path, "Ticket office", text_of(path))
    refreshed = home.refresh()
    assert refreshed.ended == ("held", 2)
    assert "vanished" in refreshed.message
    assert "kb approve acme/docs 2" in refreshed.message
    assert (len(home.keys()), home.answers(None, QUERY)) == (10, before)
    again = home.refresh()
    assert (again.ended, again.embedded) == (("held", 2), 0), "found again, a held version keeps its number"
    assert home.statuses() == {1: "published", 2: "held"}
    check_recovered(home, site, before)
    assert home.statuses() == {1: "published", 2: "superseded"}


def test_a_redirect_to_a_login_keeps_the_document_and_hides_no_change(home: Home, site: Site) -> None:
    site.put("/login", "Login", "Please log in with your name and password to go on.")
    assert home.refresh().ended == ("unchanged", 1), "nothing links there"
    site.redirects = {f"/{fruit}": "/login" for fruit in FRUITS}
    site.put("/plum", "Plum", "Meanwhile plums are distilled into a clear brandy.")
    site.headers = lambda: {"Last-Modified": "Sat, 21 Nov 2026 08:00:00 GMT"}
    refreshed = home.refresh()
    assert refreshed.ended == ("ready", 2), refreshed.message
    assert set(home.keys()) == {"/", "/login", *(f"/{fruit}" for fruit in FRUITS)}
    pages = home.store().tables.open("pages").read_columns(["key", "last_modified"])
    kept = {key: at for key, at in pages.iter_rows() if key.endswith(FRUITS)}
    assert set(kept.values()) == {None}, "what the redirect says of itself is nothing about the page"
    site.redirects, site.headers = {}, dict
    assert home.refresh().cleaned == 1
    assert "brandy" in home.hits("plums distilled brandy")[0]["text"]


# -- what people decide


def test_what_was_rolled_back_comes_back_only_by_approval(home: Home, site: Site) -> None:
    site.put("/plum", "Plum", prose("the wrong plum"))
    assert home.refresh().ended == ("ready", 2)
    rollback_kb(home.settings, home.db, KEY, 1)
    refreshed = home.refresh()
    assert (refreshed.ended, refreshed.worked) == (("held", 3), (0, 0, 0))
    assert f"would bring back 1 documents of version 2, which was rolled back: {site.url}/plum" in refreshed.message
    assert home.live().version == 1
    assert home.refresh().ended == ("held", 3)
    approve_version(home.settings, home.db, KEY, 3)
    assert (home.live().version, home.refresh().ended) == (3, ("unchanged", 3))


def test_what_is_new_after_a_rollback_is_published_unasked(home: Home, site: Site) -> None:
    site.put("/plum", "Plum", prose("the wrong plum"))
    assert home.refresh().ended == ("ready", 2)
    rollback_kb(home.settings, home.db, KEY, 1)
    site.put("/plum", "Plum", prose("the mended plum"))
    refreshed = home.refresh()
    assert (refreshed.ended, refreshed.worked) == (("ready", 3), (1, 1, 1)), refreshed.message
    assert home.refresh().ended == ("unchanged", 3)


def test_force_publishes_what_is_held(home: Home, site: Site) -> None:
    for fruit in FRUITS[:5]:
        del site.pages[f"/{fruit}"]
    held = home.refresh()
    assert held.ended == ("held", 2)
    assert "5 of 10 documents vanished (50%)" in held.message
    forced = home.refresh(force=True)
    assert (forced.ended, forced.embedded) == (("ready", 3), 0)
    assert home.statuses() == {1: "published", 2: "superseded", 3: "published"}
    assert len(home.keys()) == 5


# -- the same everywhere


def test_two_homes_build_the_same_version_of_the_same_site(home: Home, site: Site, tmp_path: Path) -> None:
    other = Home(tmp_path / "other", home.models_dir)
    other.apply(site)
    assert other.refresh().ended == ("ready", 1)
    documents = [
        set(each.store().tables.open(DOCUMENTS).read_columns(["document_id"])["document_id"]) for each in (home, other)
    ]
    assert documents[0] == documents[1]
    assert home.chunk_ids() == other.chunk_ids()
    assert home.live().content.sha256 == other.live().content.sha256
    assert home.answers(None, QUERY) == other.answers(None, QUERY)
