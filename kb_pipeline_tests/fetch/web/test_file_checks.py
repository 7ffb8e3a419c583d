"""What is said of the globs of a web source before anything is fetched."""

from __future__ import annotations

from typing import Any

import pytest

from kb_pipeline.fetch.web.file_checks import empty_warnings, glob_problems
from kb_pipeline.spec.sources import WebSource


def _site(**fields: Any) -> WebSource:
    return WebSource(**{"name": "site", "type": "web", "start_urls": ["https://docs.example.com/guide/"], **fields})


@pytest.mark.parametrize(
    ("glob", "meant"),
    [
        ("guide/**", "/guide/**"),
        ("https://docs.example.com/guide/**", "/guide/**"),
        ("docs.example.com/guide/**", "/guide/**"),
        ("/guide/.*", "/guide/**"),
        ("^/guide/.*$", "/guide/**"),
        ("/guide/***", "/guide/**"),
        ("/search?q=*", "/search"),
        ("/guide/{a,b}/**", ""),
        ("/guide/[ab].html", ""),
        ("/a b", ""),
        ("*.pdf", "**/*.pdf"),
    ],
)
def test_a_glob_that_is_none_is_a_problem_and_may_be_meant_so(glob: str, meant: str) -> None:
    (problem,) = glob_problems(_site(exclude=["/fine/*", glob]))
    assert (problem.field, problem.given) == ("exclude.1", repr(glob))
    assert problem.suggestion == (f"did you mean {meant}?" if meant else "")


@pytest.mark.parametrize("glob", ["/guide/**", "**/*.pdf", "**/print", "/a/*/c", "/v1.2/(old)/*", "/ä/*"])
def test_a_good_glob_is_none(glob: str) -> None:
    assert not list(glob_problems(_site(include=[glob])))


@pytest.mark.parametrize(
    "fields",
    [
        {"exclude": ["/**"]},
        {"exclude": ["**"]},
        {"include": ["/guide/**"], "exclude": ["/guide/**"]},
        {"include": ["/guide/*.html"], "exclude": ["**/*.html"]},
        {"include": ["/api/**"], "scope": "prefix"},
        {"include": ["/"], "scope": "prefix"},
        {"include": ["/api/**", "/guide/old/**"], "exclude": ["/guide/old/**"], "scope": "prefix"},
    ],
)
def test_rules_that_leave_no_page_are_warned_of(fields: dict[str, Any]) -> None:
    (warning,) = empty_warnings(_site(**fields))
    assert warning.startswith("source site: no page can be kept: ")


def test_an_include_glob_of_no_use_beside_useful_ones_is_named() -> None:
    site = _site(include=["/guide/**", "/api/**"], scope="prefix")
    assert list(empty_warnings(site)) == [
        "source site: the include glob /api/** matches nothing that scope and exclude leave"
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"include": ["/guide/**"]},
        {"include": ["/guide/**"], "exclude": ["/guide/old/**"]},
        {"include": ["/guide/**"], "scope": "prefix"},
        {"include": ["/*/de/**"], "scope": "prefix"},
        {"include": ["**"], "scope": "prefix"},
        {"include": ["**/*.html"], "scope": "prefix"},
        {"include": ["/guide/a"], "scope": "prefix"},
        {"include": ["/guide/*"], "exclude": ["**/*.pdf", "**/print/**"]},
        {"exclude": ["/*/print/**"]},
    ],
)
def test_rules_that_leave_a_page_are_not(fields: dict[str, Any]) -> None:
    assert not list(empty_warnings(_site(**fields)))
