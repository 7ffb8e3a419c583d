"""What is told of an address: how it was met, what each rule decides with its line, what came, and what is next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kb_pipeline.control.kbs import catalog
from kb_pipeline.errors import UsageError
from kb_pipeline.operations.erase_document import erase_document
from kb_pipeline.operations.explain import Explanation, SourceExplanation, explain_key
from kb_pipeline.spec.kb_file import parse_spec
from kb_pipeline_tests.operations.home import KEY, Home, quick_refreshes
from kb_pipeline_tests.site import Site, serve_site

FILE = """\
tenant: acme
kb: docs
sources:
  - name: site
    type: web
    start_urls: ["{url}/"]
    delay_s: 0
    exclude:
      - /old/**
      - /${{SECRET}}/**
    max_depth: 2
  - name: manuals
    type: files
    root: {folder}
    paths: ["*.md"]
embedding: {{model: all-MiniLM-L6-v2}}
"""
SHELL = "<html><body><div id=root></div><script src=/app.js></script></body></html>"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[tuple[Home, Site]]:
    """One home whose refresh met every kind of page; the tests only read."""
    folder = tmp_path_factory.mktemp("explain")
    (folder / "docs").mkdir()
    (folder / "docs/guide.md").write_text("# Guide\n\nHow the scale is zeroed before every weighing.")
    with quick_refreshes(), serve_site() as site, pytest.MonkeyPatch.context() as environment:
        environment.setenv("SECRET", "hush")
        site.put("/", "Orchard", "The handbook of our orchard.", ("/apples", "/old/pears", "/closed/x", "/moved"))
        links = ("/deep", "/plums", "/copy", "/down", "/gone", "/app", "/hush/x", "http://elsewhere.example/page")
        site.put("/apples", "Apples", "Apples keep for months in a cool and dark cellar.", links)
        site.put("/deep", "Deep", "Below this page lies another one.", ("/deeper",))
        site.put("/deeper", "Deeper", "This page lies three links from the first.")
        site.put("/plums", "Plums", "Dried in the sun they keep for two winters.")
        site.pages["/copy"] = site.pages["/plums"]
        site.redirects["/moved"] = "/apples"
        site.status["/down"] = 500
        site.pages["/app"] = SHELL
        site.pages["/robots.txt"] = "# ours\nUser-agent: *\nAllow: /closed/open\nDisallow: /closed\n"
        home = Home(folder / "home", models_dir)
        yaml = FILE.format(url=site.url, folder=folder / "docs")
        home.settings = with_variable(home, "SECRET", "hush")
        catalog.apply_spec(home.db, parse_spec(yaml, "test", {"SECRET": "hush"}), yaml, "tester")
        assert home.refresh().version == 1, home.last().message
        yield home, site


def with_variable(home: Home, name: str, value: str) -> Any:
    from dataclasses import replace

    return replace(home.settings, file_variables={name: value})


def explained(built: tuple[Home, Site], path: str) -> SourceExplanation:
    home, site = built
    site.answered.clear()
    found = explain_key(home.settings, home.db, KEY, site.url + path)
    assert not site.answered, "nothing is asked for"
    return next(each for each in found.sources if each.source == "site")


def decided(source: SourceExplanation) -> dict[str, tuple[bool | None, str | None, str | None]]:
    return {each.rule: (each.allows, each.reason, each.line) for each in source.decisions}


def test_a_document_is_told_with_the_chain_of_links_to_it(built: tuple[Home, Site]) -> None:
    found, url = explained(built, "/deep"), built[1].url
    assert (found.is_known, found.verdict, found.depth) == (True, "a document", 2)
    assert found.chain == (f"{url}/", f"{url}/apples", f"{url}/deep")
    assert found.linked_from == (f"{url}/apples",)
    assert found.document is not None
    assert (found.document.outcome, found.document.title) == ("document", "Deep")
    assert found.last is not None
    assert (found.last.status, found.next_ask) == (200, "the next refresh in which it is due")


@pytest.mark.parametrize(
    ("path", "rule", "decision"),
    [
        ("/old/pears", "exclude", (False, "excluded", "exclude: /old/**")),
        ("/hush/x", "exclude", (False, "excluded", "exclude: /${SECRET}/**")),
        ("/deeper", "max_depth", (False, "too_deep", "max_depth: 2")),
        ("/closed/x", "robots.txt", (False, "robots", "4: Disallow: /closed")),
        ("/closed/open", "robots.txt", (True, None, "3: Allow: /closed/open")),
        ("/apples", "robots.txt", (True, None, None)),
        ("/" + "a/" * 30, "limits.path_segments", (False, "path_too_long", None)),
    ],
)
def test_each_decision_names_its_rule_and_its_line(
    built: tuple[Home, Site], path: str, rule: str, decision: tuple[bool, str | None, str | None]
) -> None:
    assert decided(explained(built, path))[rule] == decision


@pytest.mark.parametrize(
    ("path", "verdict", "remedy"),
    [
        ("/deeper", "left out (too_deep): more links away from a start URL than max_depth", "raise max_depth"),
        ("/old/pears", "left out (excluded): the include and exclude globs leave it out", None),
        ("/gone", "left out (not_found): status 404", None),
        ("/app", "left out (needs_javascript): its text is made by scripts; try rendering it", "set render: auto"),
        ("/never/met", "never met; nothing that is known speaks against it", "link to it, or name it in start_urls"),
        ("/old/plums", "never met; exclude would leave it out (excluded): a glob leaves it out", None),
    ],
)
def test_what_became_of_it_or_would_is_a_sentence(
    built: tuple[Home, Site], path: str, verdict: str, remedy: str | None
) -> None:
    found = explained(built, path)
    assert found.verdict == verdict
    assert (found.remedy or "").startswith(remedy or "")
    assert (found.remedy is None) is (remedy is None)


def test_other_names_of_a_document_say_which(built: tuple[Home, Site]) -> None:
    url = built[1].url
    assert explained(built, "/moved").verdict == f"another name of {url}/apples, to which it redirects"
    assert explained(built, "/plums").verdict == f"another name of {url}/copy, which has the same text"
    assert explained(built, "/copy").verdict == "a document"


def test_a_failure_says_when_it_is_asked_for_again(built: tuple[Home, Site]) -> None:
    found = explained(built, "/down")
    assert found.last is not None
    assert (found.last.status, found.last.failures) == (500, 1)
    assert found.next_ask == "the next refresh"
    assert "kb retry" in (found.remedy or "")
    assert explained(built, "/old/pears").next_ask.startswith("not asked for: its rules decide again at every refresh")


def test_another_spelling_is_the_same_page_and_what_is_dropped_is_said(built: tuple[Home, Site]) -> None:
    home, site = built
    found = explain_key(home.settings, home.db, KEY, f" {site.url.upper()}/deep?utm_source=mail#top ")
    assert found.sources[0].key == f"{site.url}/deep"
    assert found.dropped == ("utm_source=mail", "#top")


def test_an_address_elsewhere_is_out_of_scope(built: tuple[Home, Site]) -> None:
    home, site = built
    (found, *_) = explain_key(home.settings, home.db, KEY, "http://elsewhere.example/page").sources
    assert decided(found)["scope"] == (False, "out_of_scope", None)
    assert found.linked_from == (f"{site.url}/apples",)
    (private, *_) = explain_key(home.settings, home.db, KEY, "http://169.254.169.254/latest").sources
    assert decided(private)["address"][:2] == (False, "blocked_address")


def test_a_path_is_explained_by_the_globs_of_its_source(built: tuple[Home, Site]) -> None:
    home, _ = built
    (guide,) = explain_key(home.settings, home.db, KEY, "guide.md").sources
    assert (guide.source, guide.verdict, decided(guide)["paths"]) == (
        "manuals", "a document", (True, None, "paths: *.md"),
    )  # fmt: skip
    (other,) = explain_key(home.settings, home.db, KEY, "folder/guide.pdf").sources
    assert other.verdict == "never met; paths would leave it out (excluded): no glob of paths matches it"


def test_nothing_that_a_variable_gave_is_told(built: tuple[Home, Site]) -> None:
    home, _ = built
    (found, *_) = explain_key(home.settings, home.db, KEY, "http://elsewhere.example/page").sources
    assert "hush" not in str(found.as_json())


@pytest.mark.parametrize("given", ["", " ", "x" * 5000, "/etc/passwd", "ftp://a.example/", "http://u:p@h.example/"])
def test_what_is_no_key_of_any_source_is_refused_in_words(built: tuple[Home, Site], given: str) -> None:
    home, _ = built
    with pytest.raises(UsageError):
        explain_key(home.settings, home.db, KEY, given)


@pytest.mark.parametrize(
    "given", ["http://[::1]/", "http://a.example/%00' OR 1=1 --", "http://\ud800.example/", "a\0b"]
)
def test_hostile_addresses_are_explained_or_refused(built: tuple[Home, Site], given: str) -> None:
    home, _ = built
    try:
        found = explain_key(home.settings, home.db, KEY, given)
    except UsageError:
        return
    assert isinstance(found, Explanation)
    assert not any(each.is_known for each in found.sources)


# Each with a home of its own


@pytest.fixture
def home(tmp_path: Path, models_dir: Path) -> Iterator[Home]:
    with quick_refreshes():
        yield Home(tmp_path / "home", models_dir)


def test_before_the_first_refresh_the_rules_are_told(home: Home) -> None:
    with serve_site() as site:
        home.apply(site, source={"include": ["/guide/**"]})
        (found,) = explain_key(home.settings, home.db, KEY, f"{site.url}/other").sources
        assert (found.is_known, decided(found)["include"][:2]) == (False, (False, "excluded"))
        assert decided(found)["robots.txt"][0] is None
        (start,) = explain_key(home.settings, home.db, KEY, f"{site.url}/").sources
        assert (start.chain, start.depth) == ((f"{site.url}/",), 0)


def test_an_edited_file_and_an_erasure_are_told_before_they_take_effect(home: Home) -> None:
    with serve_site() as site:
        site.put("/", "Orchard", "The handbook of our orchard.", ("/apples", "/pears"))
        site.put("/apples", "Apples", "Apples keep for months in a cellar.")
        site.put("/pears", "Pears", "Pears ripen after they are picked.")
        home.apply(site)
        assert home.refresh().version == 1
        home.apply(site, source={"exclude": ["/pears"], "max_pages": 2})
        (pears,) = explain_key(home.settings, home.db, KEY, f"{site.url}/pears").sources
        assert pears.verdict.startswith("a document; exclude leaves it out from the next refresh on: a glob")
        (more,) = explain_key(home.settings, home.db, KEY, f"{site.url}/plums").sources
        assert decided(more)["max_pages"][:2] == (False, "max_pages")
        erase_document(home.settings, home.db, KEY, f"{site.url}/apples")
        (apples,) = explain_key(home.settings, home.db, KEY, f"{site.url}/apples").sources
        assert decided(apples)["erasure"][:2] == (False, "erased")
