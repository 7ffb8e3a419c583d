"""A refresh goes by its KB's flags: turning one makes anew what depends on it, and versions say how they were made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kb_pipeline.control.flags.overrides import EVERYBODY, Scope, set_variant
from kb_pipeline.operations.refresh import open_refresh_run
from kb_pipeline.operations.replay import replay_document
from kb_pipeline.store.manifest import Rules
from kb_pipeline.store.stage_tables import DOCUMENTS
from kb_pipeline_tests.databases import copy_home
from kb_pipeline_tests.operations.home import KEY, Home, quick_refreshes
from kb_pipeline_tests.site import Site, serve_site

pytestmark = pytest.mark.xdist_group("flagged_refresh")  # one worker builds what the module's tests share

OWN = Scope("acme", "docs")
TEASER = "Subscribe to our letter for more about pears every week."
CREDITS = "Written by the people of the orchard while the pears ripened."


def _paragraph(fruit: str) -> str:
    return "<p>" + " ".join(f"{fruit} number {n} is told of here at length, with all of it." for n in range(9)) + "</p>"


ARTICLE = (
    "<html lang=en><head><title>Pears</title><meta property=og:type content=article>"
    "<meta property=article:published_time content=2026-11-02></head><body><div class=content><h1>Pears</h1>"
    f"{_paragraph('Pear')}{_paragraph('Apple')}<div class=teaser><p>{TEASER}</p></div>{_paragraph('Plum')}"
    f"<div class='article-bottom'><p>{CREDITS}</p></div></div></body></html>"
)
GLOSSARY = (
    "<html lang=en><head><title>Words</title></head><body><main><h1>Words</h1>"
    + "".join(f"<h2>{word}</h2><p>A {word} is a thing of the orchard.</p>" for word in ("graft", "scion", "spur"))
    + "</main></body></html>"
)


def rules_of(home: Home) -> Rules:
    """Return the rules that the live version records."""
    rules = home.live().rules
    assert rules is not None
    return rules


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    with quick_refreshes():
        yield


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serve_site() as served:
        served.put("/", "Orchard", "The handbook of our orchard.", ("/pears", "/words"))
        served.pages |= {"/pears": ARTICLE, "/words": GLOSSARY}
        yield served


@pytest.fixture(scope="module")
def first(site: Site, tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Path:
    """Return a home whose KB has version 1, made by the defaults."""
    folder = tmp_path_factory.mktemp("first") / "home"
    home = Home(folder, models_dir)
    home.apply(site)
    assert home.refresh().ended == ("ready", 1)
    home.db.dispose()
    return folder


@pytest.fixture
def home(first: Path, tmp_path: Path, models_dir: Path, site: Site) -> Home:
    copy_home(first, tmp_path / "home")
    site.asked.clear()
    return Home(tmp_path / "home", models_dir)


def article(home: Home) -> str:
    rows = home.store().tables.open(DOCUMENTS).read_columns(["key", "markdown"]).iter_rows(named=True)
    (found,) = (str(row["markdown"]) for row in rows if row["key"].endswith("/pears"))
    return found


def sent(site: Site) -> set[str]:
    """Return the pages whose bodies were fetched."""
    return set(site.asked) & set(site.pages)


def assert_replays(home: Home, site: Site) -> None:
    """Each document of the live version comes out of its bytes again by the rules that the version says."""
    for path in ("/", "/pears", "/words"):
        assert replay_document(home.reader(), site.url + path).differs == ()


def test_the_defaults_make_what_was_made_before_there_were_flags(home: Home, site: Site) -> None:
    assert TEASER not in article(home)
    assert CREDITS in article(home)
    assert rules_of(home)["clean"]["focus"] == "balanced"
    assert rules_of(home)["chunk"]["join_sections"] is True
    assert (home.refresh().ended, sent(site)) == (("unchanged", 1), set())


@pytest.mark.parametrize(("variant", "teaser", "credits"), [("recall", True, True), ("precision", False, False)])
def test_another_focus_cleans_the_stored_bytes_anew(
    home: Home, site: Site, variant: str, teaser: bool, credits: bool
) -> None:
    set_variant(home.db, "clean-focus", variant, OWN, "ann")
    refreshed = home.refresh()
    assert (refreshed.ended, sent(site)) == (("ready", 2), set())
    assert (refreshed.cleaned, refreshed.chunked) == (3, 1), "all are cleaned; what came out differently is chunked"
    assert (TEASER in article(home), CREDITS in article(home)) == (teaser, credits)
    assert rules_of(home)["clean"]["focus"] == variant
    assert_replays(home, site)


def test_sections_apart_are_chunked_anew_and_nothing_is_cleaned(home: Home, site: Site) -> None:
    before = len(home.chunk_ids())
    set_variant(home.db, "chunk-join-sections", "off", Scope("acme"), "ann")
    refreshed = home.refresh()
    assert (refreshed.ended, sent(site)) == (("ready", 2), set())
    assert (refreshed.cleaned, refreshed.chunked) == (0, 3)
    assert refreshed.embedded == 3
    assert len(home.chunk_ids()) == before + 2, "each word has a chunk of its own; the title stays with the first"
    assert rules_of(home)["chunk"]["join_sections"] is False
    assert_replays(home, site)
    set_variant(home.db, "chunk-join-sections", "on", Scope("acme"), "ann")
    again = home.refresh()
    assert (again.ended, again.worked) == (("ready", 3), (0, 3, 0)), "the vectors are kept"


def test_a_flag_that_is_turned_amid_a_run_waits_for_the_next_one(home: Home, site: Site) -> None:
    with open_refresh_run(home.settings, home.db, KEY, "one-run") as kb:
        kb.fetch()
    set_variant(home.db, "clean-focus", "recall", EVERYBODY, "ann")
    with open_refresh_run(home.settings, home.db, KEY, "one-run") as kb:
        kb.clean()
        kb.end_partial(["documents"])
    assert home.last().cleaned == 0
    assert TEASER not in article(home)
    home.refresh()
    assert TEASER in article(home)
