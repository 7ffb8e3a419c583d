"""What URLs have in common, by the names of their folders, the forms of their values and the names of parameters."""

from __future__ import annotations

import pytest

from kb_pipeline.fetch.web.crawl.url_patterns import is_repeating, patterns_of

HOST = "https://example.com"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/events/2026/11", "/events/2031/5"),
        ("/day/2026-11-05", "/day/2031-01-01"),
        ("/lost/8f3a2bc91d", "/lost/77ab1c0d2e"),
        ("/(S(x1y2z3))/unit/3", "/(S(a9b8c7))/unit/4"),
        ("/list?b=1&a=2", "/list?a=3&b=4"),
        ("/guide/install.html", "/guide/use.html"),
        ("/a/b/c/d/e/f/g/page", "/a/b/c/d/e/x/y/page"),
        ("/shop/page-2", "/shop/page-31"),
        ("/a/more/more/more/x", "/b/c/c/c/d/d/d/y"),
    ],
)
def test_one_pattern(one: str, other: str) -> None:
    assert patterns_of(HOST + one).own == patterns_of(HOST + other).own


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/v1/install", "/v2/install"),
        ("/3.10/install", "/3.11/install"),
        ("/en/install", "/de/install"),
        ("/list?a=1", "/list?a=1&b=2"),
        ("/list?a=1", "/list"),
        ("/events/2026/11", "/events/2026/11/05"),
        ("/shop/page-2", "/shop/hammer"),
        ("/real12", "/8f3a2bc91d"),
        ("/a.php?id=1", "/b.php?id=1"),
    ],
)
def test_two_patterns(one: str, other: str) -> None:
    assert patterns_of(HOST + one).own != patterns_of(HOST + other).own


def test_a_page_of_every_folder_and_a_parameter_of_every_page_are_patterns_too() -> None:
    assert patterns_of(f"{HOST}/saw/specs").across == patterns_of(f"{HOST}/drill/specs").across is not None
    assert patterns_of(f"{HOST}/saw?print=1").across == patterns_of(f"{HOST}/drill?print=1").across is not None
    assert patterns_of(f"{HOST}/article/5").across is None, "numbers say nothing of what a page is"


def test_the_larger_parts_of_a_site_end_with_its_host() -> None:
    assert patterns_of(f"{HOST}/shop/saws?sort=price").shared == (
        "example.com/shop/saws?", "example.com/shop/", "example.com",
    )  # fmt: skip
    assert patterns_of("http://example.com:81/").shared == ("example.com:81",)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/b/a/b/a/b/", True),
        ("/x/x/x", True),
        ("/x/x/y", False),
        ("/code/1/1/1", False),
        ("/2026/2026/2026", False),
        ("/a1/a1/a1", True),
    ],
)
def test_folders_that_repeat_have_letters(path: str, expected: bool) -> None:
    assert is_repeating(path) is expected
