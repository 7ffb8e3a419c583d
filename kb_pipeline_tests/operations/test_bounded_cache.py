"""What is kept stays within its bytes, and every lookup is told."""

from __future__ import annotations

from kb_pipeline.operations.bounded_cache import BoundedCache


def test_what_was_made_is_found_and_what_was_used_longest_ago_makes_room() -> None:
    told: list[bool] = []
    cache: BoundedCache[str, str] = BoundedCache(10, len, told.append)
    assert cache.get_or_make("a", lambda: "aaaa") == "aaaa"
    assert cache.get_or_make("b", lambda: "bbbb") == "bbbb"
    assert cache.get_or_make("a", lambda: "other") == "aaaa"
    cache.put("c", "cccc")
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == ("aaaa", None, "cccc")
    assert told == [False, False, True, True, False, True]


def test_what_is_larger_than_the_cache_is_given_and_not_kept() -> None:
    cache: BoundedCache[str, str] = BoundedCache(3, len)
    assert cache.get_or_make("a", lambda: "aaaa") == "aaaa"
    assert cache.get("a") is None
    cache.put("b", "bbb")
    cache.clear()
    assert cache.get("b") is None
