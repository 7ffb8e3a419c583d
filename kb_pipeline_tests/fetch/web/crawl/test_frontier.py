"""Which URL is next: hosts in turn, near ones first, repetitive ones last, each once."""

from __future__ import annotations

from kb_pipeline.fetch.web.crawl.frontier import CrawlRequest, Frontier


def frontier(*urls: tuple[str, int], per_host: int = 100, capacity: int = 100, by_depth: bool = True) -> Frontier:
    made = Frontier(capacity, per_host, by_depth=by_depth)
    for url, depth in urls:
        made.mark_seen(url)
        made.enqueue(url.partition("/")[0], CrawlRequest(url, depth))
    return made


def taken(frontier: Frontier, most: int = 100) -> list[str]:
    """Take what may be taken now, without any request ending."""
    found: list[str] = []
    while len(found) < most and (next_one := frontier.take()) is not None:
        found.append(next_one[1].url)
    return found


def test_a_url_is_new_once() -> None:
    empty = frontier()
    assert [empty.mark_seen("a/1"), empty.mark_seen("a/1"), empty.mark_seen("a/2")] == [True, False, True]
    assert (empty.has_seen("a/1"), empty.has_seen("a/3")) == (True, False)


def test_hosts_take_turns() -> None:
    urls = [(f"a/{number}", 1) for number in range(3)] + [("b/0", 1), ("c/0", 1), ("c/1", 1)]
    assert taken(frontier(*urls)) == ["a/0", "b/0", "c/0", "a/1", "c/1", "a/2"]


def test_within_a_host_what_is_near_a_start_comes_first_then_what_was_found_first() -> None:
    assert taken(frontier(("a/deep", 3), ("a/1", 1), ("a/2", 2), ("a/1b", 1))) == ["a/1", "a/1b", "a/2", "a/deep"]


def test_known_pages_keep_their_order_whatever_their_depth() -> None:
    assert taken(frontier(("a/deep", 3), ("a/1", 1), ("a/2", 2), by_depth=False)) == ["a/deep", "a/1", "a/2"]


def test_a_host_has_no_more_requests_in_progress_than_it_may() -> None:
    queue = frontier(*((f"a/{number}", 1) for number in range(5)), ("b/0", 1), per_host=2)
    assert taken(queue) == ["a/0", "b/0", "a/1"]
    queue.release("a")
    assert taken(queue) == ["a/2"]
    assert len(queue) == 2


def test_repetitive_urls_wait_until_nothing_else_of_the_host_is_left() -> None:
    queue = frontier(("a/deep", 9))
    queue.enqueue("a", CrawlRequest("a/repeated", 1, is_repetitive=True))
    assert queue.is_waiting_last("a/repeated")
    assert taken(queue) == ["a/deep", "a/repeated"]
    assert not queue.is_waiting_last("a/repeated")


def test_a_repetitive_url_that_another_page_links_to_is_promoted_and_taken_once() -> None:
    queue = frontier(("a/1", 1), ("a/3", 3))
    queue.enqueue("a", CrawlRequest("a/2", 2, is_repetitive=True))
    queue.promote("a", CrawlRequest("a/2", 2))
    assert len(queue) == 3
    assert taken(queue) == ["a/1", "a/2", "a/3"]
    assert len(queue) == 0


def test_a_frontier_is_full_at_its_capacity_and_has_room_again() -> None:
    queue = frontier(("a/1", 1), ("a/2", 1), capacity=2)
    assert queue.is_full
    taken(queue, most=1)
    assert not queue.is_full


def test_what_is_left_over_comes_out_whole_though_requests_were_in_progress() -> None:
    queue = frontier(*((f"a/{number}", 1) for number in range(6)), ("b/0", 1), per_host=1)
    assert len(taken(queue)) == 2
    assert [request.url for request in queue.take_all()] == [f"a/{number}" for number in range(1, 6)]
    assert len(queue) == 0
