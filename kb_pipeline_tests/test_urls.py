"""Canonical URLs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kb_pipeline.urls import canonical_url, hostname_of, looks_random, netloc_of, origin_of, path_of


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("HTTP://EXAMPLE.com:80", "http://example.com/"),
        ("https://example.com:443/a/../b/./c", "https://example.com/b/c"),
        ("https://example.com:8443/", "https://example.com:8443/"),
        ("https://bücher.example/ü", "https://xn--bcher-kva.example/%C3%BC"),
        ("https://example.com/%7euser/%e2%82%ac#top", "https://example.com/~user/%E2%82%AC"),
        ("https://example.com/?", "https://example.com/"),
        ("https://example.com/?b=2&a=1&utm_source=x&GCLID=y", "https://example.com/?b=2&a=1"),
        ("https://example.com/?%75tm_source=x", "https://example.com/"),
        ("https://example.com/a%2Fb", "https://example.com/a%2Fb"),
        ("  https://example.com/a b\n", "https://example.com/a%20b"),
        ("http://2130706433/", "http://127.0.0.1/"),
    ],
)
def test_one_spelling(written: str, canonical: str) -> None:
    assert canonical_url(written) == canonical


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("/talk.php?session_id=17", "/talk.php?session_id=17"),
        ("/talk.php?session=2024-keynote&sid=story5", "/talk.php?session=2024-keynote&sid=story5"),
        ("/talk.php?id=5&session_id=a8f3c9d2e1b7", "/talk.php?id=5"),
        ("/?sessionid=550e8400-e29b-41d4-a716-446655440000", "/"),
        ("/?SID=0123456789abcdef01234567", "/"),
        ("/?PHPSESSID=1", "/"),
        ("/a;sid=8f3a9c2b7d1e/b?c=1", "/a/b?c=1"),
        ("/a;sid=5", "/a;sid=5"),
        ("/a;jsessionid=77", "/a"),
    ],
)
def test_a_session_is_told_by_what_its_value_looks_like(written: str, canonical: str) -> None:
    assert canonical_url("https://example.com" + written) == f"https://example.com{canonical}"


def test_what_looks_random() -> None:
    assert all(map(looks_random, ("8f3a2bc9", "k3j4h5", "0123456789abcdef", "aqUw8ZkLm3Xp")))
    assert not any(map(looks_random, ("17", "covid19", "page12", "harbour", "deadbeef", "straße-3a4b5c")))


@pytest.mark.parametrize(
    "written",
    [
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://user:secret@example.com/",
        "https://",
        "http://[::1",
        "/relative",
        "https://example.com/" + "a" * 5000,
        "https://example.com/\udc00",
    ],
)
def test_what_is_not_fetchable_has_no_spelling(written: str) -> None:
    spelled = canonical_url(written)
    assert spelled is None or "\udc00" not in spelled


def test_relative_links() -> None:
    base = "https://example.com/docs/page?x=1"
    assert canonical_url("../img/a.html", base) == "https://example.com/img/a.html"
    assert canonical_url("?y=2", base) == "https://example.com/docs/page?y=2"
    assert canonical_url("//other.example/x", base) == "https://other.example/x"


def test_parts() -> None:
    url = "http://example.com:8080/a/b?c=/d"
    assert (origin_of(url), path_of(url)) == ("http://example.com:8080", "/a/b?c=/d")
    assert (hostname_of(url), netloc_of(url)) == ("example.com", "example.com:8080")


_TEXT = st.text(st.sampled_from("abAB019/.%?&=#~;:@ +-_\\üツ*2e7E"), max_size=40)


@given(_TEXT)
def test_canonical_urls_are_canonical(tail: str) -> None:
    spelled = canonical_url("http://example.com/" + tail)
    if spelled is not None:
        assert canonical_url(spelled) == spelled
        assert "#" not in spelled


@given(st.text(max_size=60))
def test_any_text_is_survived(text: str) -> None:
    spelled = canonical_url(text, "https://example.com/a/b")
    assert spelled is None or canonical_url(spelled) == spelled
