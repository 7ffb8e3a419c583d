"""Which files of a table are rewritten: the most wasteful, small neighbours, and few at a time."""

from __future__ import annotations

from kb_pipeline.store.compaction import DataFile, files_to_rewrite


def piece(number: int, live: int, stored: int = 1_000_000) -> DataFile:
    return DataFile(number, 100, stored, live)


def test_garbage_below_its_limit_is_left_alone() -> None:
    assert files_to_rewrite([piece(n, 900_000) for n in range(32)])[0] == set()


def test_the_most_wasteful_files_are_rewritten_first_and_only_a_few_at_once() -> None:
    pieces = [piece(n, 1_000_000 - 15_000 * n) for n in range(32)]
    chosen, _ = files_to_rewrite(pieces)
    assert chosen == set(range(32 - len(chosen), 32))
    assert 0 < sum(pieces[n].live for n in chosen) <= 2_000_000


def test_a_single_large_file_is_rewritten_in_pieces_once_it_wastes_too_much() -> None:
    chosen, rows_per_piece = files_to_rewrite([DataFile(0, 64_000, 100_000_000, 80_000_000)])
    assert (chosen, rows_per_piece) == ({0}, 2000)


def test_small_files_are_merged_only_with_their_neighbours_and_only_when_many() -> None:
    whole, small = piece(0, 8_000_000, 8_000_000), 100_000
    few = [whole, *(piece(n, small, small) for n in range(1, 3))]
    assert files_to_rewrite(few)[0] == set()
    many = [whole, *(piece(n, small, small) for n in range(1, 6))]
    assert files_to_rewrite(many)[0] == {1, 2, 3}, "they are a whole file together; the others wait for more"
    apart = [p for n in range(5) for p in (piece(10 + n, small, small), piece(20 + n, 8_000_000, 8_000_000))]
    assert files_to_rewrite(apart)[0] == set()
