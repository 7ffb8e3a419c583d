"""Which of the immutable files that hold rows to rewrite: few at a time, the most wasteful first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

_FILES = 32
"""About as many files hold a table. Versions that are kept share every file that was not rewritten since, so what a
refresh rewrites, and each of the versions kept holds once more, must be a small share of the table: 3 % here."""
_LEAST_FILE_BYTES = 128 * 1024
"""Smaller files are not worth having: each has some kilobytes of its own metadata."""
_LEAST_FILE_ROWS = 64
_SMALL_FILES = 4
"""So many neighbours that are small are merged, so that a row is copied few times until it lies in a whole file."""
_GROUPS_AT_ONCE = 2
"""Groups of small neighbours merged by one refresh: it adds fewer."""
_MANY_FILES = 4 * _FILES
MAX_GARBAGE = 0.15
"""Of the bytes stored. With 1 % of the rows replaced by each refresh and g the share of garbage, keeping it there
rewrites .01 / g of all a refresh, and four versions beside the live one still hold what was rewritten since them.
Together 1 / (1 - g) + 4 * .01 / g of the live bytes: 1.44 at .15 if all files are equally wasteful, as they are after
a first build; 1.31 once they are not, for then the worst have twice the average. .1 gives 1.51, .2 gives 1.45."""
REWRITTEN_SHARE = 1 / 16
"""Of the bytes stored: no more is rewritten at once, so that a refresh stays cheap even after a mass deletion."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """An immutable file that holds rows, some of which may be garbage by now."""

    number: int
    rows: int
    """Live ones."""
    stored: int
    """Bytes on disk."""
    live: int
    """The live rows' share of them."""


def most_wasteful(files: Iterable[DataFile], least_bytes: int, share: float = REWRITTEN_SHARE) -> set[int]:
    """Return the numbers of the files to rewrite now so that garbage stays below its limit, the worst first.

    Args:
        files: all of them.
        least_bytes: so much may be rewritten however small the whole is.
        share: of the whole that may be rewritten at once.
    """
    worst_first = sorted((file for file in files if file.stored), key=lambda file: file.live / file.stored)
    stored = sum(file.stored for file in worst_first)
    garbage = stored - sum(file.live for file in worst_first)
    budget = max(least_bytes, int(stored * share))
    chosen: set[int] = set()
    for file in worst_first:
        # One at least, however large: else a single file would never shrink.
        if garbage <= stored * MAX_GARBAGE or (chosen and file.live > budget):
            break
        chosen.add(file.number)
        garbage -= file.stored - file.live
        stored -= file.stored - file.live
        budget -= file.live
    return chosen


def files_to_rewrite(files: Sequence[DataFile], share: float = REWRITTEN_SHARE) -> tuple[set[int], int]:
    """Which files of a table to rewrite now, and how many rows a file shall have.

    Args:
        files: all of them, in the table's order: only neighbours can be merged.
        share: of the table that may be rewritten at once to be rid of deleted rows.
    """
    stored = sum(file.stored for file in files)
    rows = sum(file.rows for file in files)
    whole = max(_LEAST_FILE_BYTES, stored // _FILES)
    chosen = most_wasteful(files, whole, share)
    groups = list(_small_neighbours(files, whole))
    # Many commits of a first build are merged at once; those of refreshes little by little, since each of the
    # versions kept holds them once more.
    for group in groups if len(files) > _MANY_FILES else groups[:_GROUPS_AT_ONCE]:
        chosen.update(file.number for file in group)
    return chosen, max(1, rows * whole // max(1, stored))


def _small_neighbours(files: Sequence[DataFile], whole: int) -> Iterator[list[DataFile]]:
    """Yield runs of neighbouring small files that are many, or together as large as a whole file."""
    group: list[DataFile] = []
    for file in files:
        is_small = file.live < whole // 2
        if is_small:
            group.append(file)
        if sum(file.live for file in group) >= whole or not is_small:
            if len(group) >= _SMALL_FILES or sum(file.live for file in group) >= whole:
                yield group
            group = []
    if len(group) >= _SMALL_FILES:
        yield group


def rows_per_file(rows: int) -> int:
    """Rows a file shall have when a table of so many rows is written for the first time."""
    return max(_LEAST_FILE_ROWS, -(-rows // _FILES))
