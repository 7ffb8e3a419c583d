"""Markdown falls into blocks that give the whole again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kb_pipeline.clean.blocks import Edges, cut, edges_of, split_blocks

TEXT = "Home of the lock\n\n# Gates\n\n```sh\nopen\n\nclose\n```\n\n- one\n- two\n\nAll rights reserved.\n"


def test_a_fence_with_blank_lines_is_one_block() -> None:
    assert [block.strip() for block in split_blocks(TEXT)] == [
        "Home of the lock", "# Gates", "```sh\nopen\n\nclose\n```", "- one\n- two", "All rights reserved.",
    ]  # fmt: skip


@given(st.text(st.sampled_from("ab#`~> \n"), max_size=80), st.integers(0, 3), st.integers(0, 3))
def test_what_is_cut_and_the_rest_are_the_whole(text: str, opening: int, closing: int) -> None:
    count = len(split_blocks(text))
    opening = min(opening, count)
    pieces = cut(text, opening, min(closing, count - opening))
    assert "".join(pieces) == text


def test_edges_are_read_as_they_were_written() -> None:
    edges = edges_of("\n".join([TEXT] * 20))
    assert Edges.from_bytes(edges.to_bytes()) == edges
    assert edges.count == 100
    assert len(edges.opening) == len(edges.closing) == 12


def test_equal_blocks_have_equal_hashes_and_headings_none() -> None:
    edges = edges_of(TEXT)
    assert edges.opening[0] == edges_of("Home of   the lock\n\nother\n").opening[0]
    assert edges.opening[1] == 0
