"""Scope and path globs."""

from __future__ import annotations

import pytest

from kb_pipeline.fetch.web.crawl.scope import Scope, compile_glob, glob_problem, in_scope, registrable_domain
from kb_pipeline_tests.fetch.web.conftest import rules_for

START = "https://docs.example.co.uk/guide/start.html"


@pytest.mark.parametrize(
    ("scope", "inside", "outside"),
    [
        ("host", "http://docs.example.co.uk/other", "https://www.example.co.uk/"),
        ("host", "https://DOCS.example.co.uk/", "https://docs.example.co.uk:8443/"),
        ("domain", "https://www.example.co.uk/", "https://example.com/"),
        ("domain", "https://example.co.uk/", "https://other.co.uk/"),
        ("prefix", "https://docs.example.co.uk/guide/a/b", "https://docs.example.co.uk/guidebook"),
    ],
)
def test_scopes(scope: str, inside: str, outside: str) -> None:
    rules = rules_for(START, scope=scope)
    assert in_scope(inside, rules)
    assert not in_scope(outside, rules)


def test_exclude_wins_over_include() -> None:
    rules = rules_for(START, include=("/guide/**",), exclude=("/guide/old/**", "/**/*.pdf"))
    assert in_scope("https://docs.example.co.uk/guide", rules)
    assert in_scope("https://docs.example.co.uk/guide/a/b?page=2", rules)
    assert not in_scope("https://docs.example.co.uk/blog/", rules)
    assert not in_scope("https://docs.example.co.uk/guide/old/x", rules)
    assert not in_scope("https://docs.example.co.uk/guide/a.pdf", rules)


@pytest.mark.parametrize(
    ("glob", "path", "matches"),
    [
        ("/a/*/c", "/a/b/c", True),
        ("/a/*/c", "/a/b/b/c", False),
        ("/a/**/c", "/a/b/b/c", True),
        ("**.html", "/x/y.html", True),
        ("/a.b", "/axb", False),
        ("/über/*", "/%C3%BCber/x", True),
        ("/a/**", "/ab", False),
        ("/**", "/", True),
    ],
)
def test_globs(glob: str, path: str, matches: bool) -> None:
    assert bool(compile_glob(glob).fullmatch(path)) is matches


@pytest.mark.parametrize("glob", ["guide/**", "/a/***", "/a?b=1", "/a#b", "/" + "*a" * 9])
def test_bad_globs_say_what_is_wrong(glob: str) -> None:
    assert glob_problem(glob)
    with pytest.raises(ValueError, match="/"):
        compile_glob(glob)


def test_a_redirect_of_the_start_widens_the_scope() -> None:
    scope = Scope(rules_for("http://example.com/"))
    assert not scope.covers("https://www.example.com/a")
    scope.admit("https://www.example.com/")
    assert scope.covers("https://www.example.com/a")
    assert scope.covers("https://example.com/a")


def test_registrable_domains() -> None:
    assert registrable_domain("a.b.example.co.uk") == "example.co.uk"
    assert registrable_domain("one.github.io") == "one.github.io"
    assert registrable_domain("127.0.0.1") == "127.0.0.1"
    assert registrable_domain("localhost") == "localhost"


@pytest.mark.parametrize(
    ("url", "is_sibling"),
    [
        ("https://www.docs.example.co.uk/a", True),
        ("https://example.co.uk/", True),
        ("http://docs.example.co.uk:8080/", True),
        ("https://docs.example.co.uk/other/", False),
        ("https://other.co.uk/", False),
    ],
)
def test_siblings_are_other_hosts_of_the_same_site(url: str, is_sibling: bool) -> None:
    assert Scope(rules_for("https://docs.example.co.uk/guide/", scope="prefix")).is_sibling(url) is is_sibling


def test_names_of_this_machine_are_siblings() -> None:
    scope = Scope(rules_for("http://127.0.0.1:8000/"))
    assert [scope.is_sibling(f"http://{host}:8000/") for host in ("localhost", "127.0.0.2", "10.0.0.1")] == [
        True, True, False,
    ]  # fmt: skip
