"""robots.txt: who is addressed, which rule wins, what survives."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kb_pipeline.fetch.web.robots import RobotsPolicy, is_allowed, path_and_query

HOST = "https://example.com"


@pytest.mark.parametrize(
    ("rules", "path", "allowed"),
    [
        ("Disallow: /", "/x", False),
        ("Disallow:", "/x", True),
        ("Disallow: /a\nAllow: /a/b", "/a/b/c", True),
        ("Disallow: /a\nAllow: /a", "/a", True),
        ("Disallow: /a/b\nAllow: /a", "/a/b", False),
        ("Disallow: /*.pdf$", "/x/y.pdf", False),
        ("Disallow: /*.pdf$", "/x/y.pdf?z", True),
        ("Disallow: /*.pdf$", "/a.pdf/b.pdf", False),
        ("Disallow: /p*q*r", "/p1q2r3", False),
        ("Disallow: /p*q*r", "/p1r2q3", True),
        ("Disallow: /ü", "/%C3%BC", False),
        ("Disallow: /%c3%bc", "/%C3%BC", False),
        ("Disallow: /%7Euser", "/~user", False),
        ("Disallow: /a b", "/a", True),
        ("disallow /typo-colon", "/typo-colon", False),
        ("Dissallow: /typo", "/typo", False),
        ("Disallow: /\nAllow: /index.html", "/", True),
        ("DISALLOW: /Case", "/case", True),
        ("Disallow: /a # comment", "/a", False),
    ],
)
def test_the_longest_rule_wins(rules: str, path: str, allowed: bool) -> None:
    body = f"User-agent: *\n{rules}\n".encode()
    assert is_allowed(body, "kb/1.0", HOST + path) is allowed
    rule = RobotsPolicy(body, "kb/1.0").deciding_rule(HOST + path)
    assert (rule is None or rule.allows) is allowed, "the rule that is named is the one that decides"


def test_the_deciding_rule_is_told_with_its_line() -> None:
    body = b"# all\nUser-agent: other\nDisallow: /a\n\nUser-agent: *\nAllow: /a/b\nDisallow: /a\nDisallow: /a/b/*/c\n"
    policy = RobotsPolicy(body, "kb/1.0")
    told = {path: str(policy.deciding_rule(HOST + path)) for path in ("/a", "/a/b", "/a/b/x/c", "/z")}
    assert told == {
        "/a": "7: Disallow: /a",
        "/a/b": "6: Allow: /a/b",
        "/a/b/x/c": "8: Disallow: /a/b/*/c",
        "/z": "None",
    }


@pytest.mark.parametrize(
    ("robots", "allowed"),
    [
        ("User-agent: kb\nDisallow: /\n\nUser-agent: *\nAllow: /", False),
        ("User-agent: *\nDisallow: /\n\nUser-agent: KB\nAllow: /", True),
        ("User-agent: kb/2.0\nDisallow: /", False),
        ("User-agent: kbbot\nDisallow: /", True),
        ("User-agent: other\nUser-agent: kb\nDisallow: /", False),
        ("User-agent: kb\nCrawl-delay: 1\nUser-agent: other\nDisallow: /", False),
        ("User-agent: kb\nDisallow: /a\n\nUser-agent: kb\nDisallow: /x", False),
        ("Disallow: /\nUser-agent: other\nDisallow: /", True),
        ("User-agent: *\nDisallow: /x\n\nUser-agent: kb", True),
    ],
)
def test_groups(robots: str, allowed: bool) -> None:
    assert is_allowed(robots.encode(), "kb/1.0 (+https://example.com/bot)", HOST + "/x") is allowed


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbfUser-agent: *\nDisallow: /x",
        b"User-agent: *\rDisallow: /x\r",
        b"User-agent: *\r\n\0Disallow: /x\0\r\n",
        b"<html>\n<p>User-agent: none</p>\nUser-agent: *\nDisallow: /x",
        b"\xff\xfe\x80 : garbage\nUser-agent: *\nDisallow: /x\n\xc3\x28: z",
        b"User-agent: *\nDisallow: /x\n" + b"#" * 3_000_000,
    ],
)
def test_valid_lines_count_whatever_is_around_them(body: bytes) -> None:
    assert not is_allowed(body, "kb", HOST + "/x")
    assert is_allowed(body, "kb", HOST + "/y")


def test_an_html_error_page_forbids_nothing() -> None:
    assert is_allowed(b"<!doctype html><html><body>Not: here / at all</body></html>", "kb", HOST + "/x")


def test_rules_beyond_500_kib_do_not_count() -> None:
    body = b"User-agent: *\n" + b"# filler\n" * 60_000 + b"Disallow: /x\n"
    assert is_allowed(body, "kb", HOST + "/x")


def test_crawl_delay_and_sitemaps() -> None:
    policy = RobotsPolicy(
        b"Sitemap: https://example.com/a.xml\nUser-agent: *\nCrawl-delay: 9\nCrawl-delay: x\n\n"
        b"User-agent: kb\nCrawl-delay: 2.5\nDisallow:\nSitemap: /b.xml",
        "kb/1",
    )
    assert policy.crawl_delay == 2.5
    assert policy.sitemaps == ("https://example.com/a.xml", "/b.xml")
    assert RobotsPolicy(b"User-agent: *\nCrawl-delay: inf\nCrawl-delay: -1", "kb").crawl_delay is None


def test_many_stars_do_not_explode() -> None:
    started = time.monotonic()
    robots = b"User-agent: *\nDisallow: /" + b"a*" * 200 + b"b$\n"
    assert is_allowed(robots, "kb", HOST + "/" + "a" * 3000)
    assert time.monotonic() - started < 2


@given(st.binary(max_size=300), st.text(max_size=30))
def test_any_bytes_are_survived(body: bytes, path: str) -> None:
    assert is_allowed(body, "kb", HOST + "/" + path) in (True, False)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://example.com", "/"),
        ("https://example.com?q=1", "/?q=1"),
        ("https://example.com/a/b?c=d#e", "/a/b?c=d"),
        ("example.com/a", "/a"),
        ("https://example.com/a?next=http://other/", "/a?next=http://other/"),
    ],
)
def test_what_rules_are_matched_against(url: str, path: str) -> None:
    assert path_and_query(url) == path
