"""The stored links: how far every URL is, who leads to it, and what happens to a file that is missing or damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from kb_pipeline.fetch.web.link_graph import UNREACHED, LinkGraph, LinksOfPage, add_rows, read_rows, remove_rows

PAGES = (
    LinksOfPage("/", "1", ["/a", "/b"]),
    LinksOfPage("/a", "2", ["/c"], is_news=False),
    LinksOfPage("/b", None, ["/moved"], is_redirect=True),
    LinksOfPage("/moved", "3", ["/d", "/c"]),
    LinksOfPage("/island", "4", ["/beach"]),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    add_rows(tmp_path / "notes" / "links.parquet", PAGES)
    return tmp_path / "notes" / "links.parquet"


def _depths(graph: LinkGraph, *urls: str) -> list[int]:
    found = graph.distances({"/": 0})
    return [found.of(url) for url in urls]


def test_a_url_is_as_far_as_its_shortest_chain_and_a_redirect_costs_nothing(path: Path) -> None:
    depths = _depths(LinkGraph.read(path), "/", "/a", "/b", "/moved", "/c", "/d", "/island", "/beach", "/never")
    assert depths == [0, 1, 1, 1, 2, 2, UNREACHED, UNREACHED, UNREACHED]


def test_several_seeds_have_depths_of_their_own(path: Path) -> None:
    found = LinkGraph.read(path).distances({"/": 3, "/island": 1, "/c": 0})
    assert [found.of(url) for url in ("/", "/a", "/c", "/beach")] == [3, 4, 0, 2]


def test_what_a_crawl_reads_takes_the_place_of_what_is_stored(path: Path) -> None:
    graph = LinkGraph.read(path)
    graph.replace("/a", ["/new"])
    graph.replace("/new", ["/c", "/newer"])
    graph.remove("/moved")
    assert _depths(graph, "/new", "/c", "/newer", "/d") == [2, 3, 3, UNREACHED]
    assert (graph.has("/a"), graph.has("/new"), graph.has("/moved"), graph.has("/c")) == (True, True, False, False)
    reached = graph.distances({"/": 0}).reached
    assert set(graph.stored_urls(reached)) == {"/", "/a", "/b", "/moved", "/c"}


def test_it_is_told_whether_a_page_with_news_leads_to_a_url(path: Path) -> None:
    graph = LinkGraph.read(path)
    found = graph.distances({"/": 0})
    assert [found.is_linked_by_news(url) for url in ("/a", "/c", "/never")] == [True, True, False]
    graph.replace("/moved", ["/d"])
    assert not graph.distances({"/": 0}).is_linked_by_news("/c"), "only /a leads there, which says nothing new"


def test_chains_of_links_are_told(path: Path) -> None:
    graph = LinkGraph.read(path)
    assert graph.path_to("/d", ["/"]) == ["/", "/b", "/moved", "/d"]
    assert graph.path_to("/", ["/"]) == ["/"]
    assert graph.path_to("/beach", ["/", "/never"]) == []
    assert sorted(graph.linked_from("/c")) == ["/a", "/moved"]


def test_rows_are_replaced_and_removed_by_key(path: Path) -> None:
    add_rows(path, [LinksOfPage("/a", "5", [])])
    assert remove_rows(path, ["/island", "/never"]) == 1
    rows = {row["key"]: row for row in read_rows(path).to_pylist()}
    assert set(rows) == {"/", "/a", "/b", "/moved"}
    assert (rows["/a"]["sha256"], rows["/a"]["links"]) == ("5", [])


@pytest.mark.parametrize("damage", [b"", b"PAR1 no Parquet", None])
def test_a_missing_or_damaged_file_is_an_empty_one(path: Path, damage: bytes | None) -> None:
    path.unlink() if damage is None else path.write_bytes(damage)
    graph = LinkGraph.read(path)
    assert (graph.has_stored, graph.has("/"), _depths(graph, "/", "/a")) == (False, False, [0, UNREACHED])
    add_rows(path, PAGES)
    assert LinkGraph.read(path).has("/")
