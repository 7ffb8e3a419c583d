"""Groups a document's sections: each heading starts one, and crumbs join their neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from kb_pipeline.chunk.outline import Outline
from kb_pipeline.chunk.token_counter import TokenIndex


@dataclass(slots=True)
class _Section:
    start: int
    end: int
    path: tuple[str, ...]
    units: int
    has_body: bool


def read_sections(outline: Outline, ruler: TokenIndex, tiny: int, room: int) -> Iterator[tuple[int, int]]:
    """Spans that follow each other without gaps; none mixes what stands under different parents.

    Args:
        outline: of the document.
        ruler: of the same text.
        tiny: sections below so many tokens find and rank badly alone: they join a neighbour they fit with.
        room: how many tokens a chunk can hold.
    """
    group: _Section | None = None
    for section in _sections(outline, ruler):
        if group and _belong_together(group, section, tiny, room):
            group.end, group.units = section.end, group.units + section.units
            group.has_body = group.has_body or section.has_body
        else:
            if group:
                yield group.start, group.end
            group = section
    if group:
        yield group.start, group.end


def _sections(outline: Outline, ruler: TokenIndex) -> Iterator[_Section]:
    starts = [0, *outline.heading_starts]
    bodies = _have_bodies(outline)
    for index, start in enumerate(starts):
        end = starts[index + 1] if index + 1 < len(starts) else outline.length
        if end > start:
            path = outline.paths[index - 1] if index else ()
            yield _Section(start, end, path, ruler.units(start, end), index == 0 or bodies[index - 1])


def _have_bodies(outline: Outline) -> list[bool]:
    """For each heading: whether the block after it is something else."""
    headings = set(outline.heading_starts)
    followers = dict(pairwise(outline.starts))
    return [followers.get(start, start) not in headings for start in outline.heading_starts]


def _belong_together(group: _Section, section: _Section, tiny: int, room: int) -> bool:
    if not group.has_body and section.path[: len(group.path)] == group.path:
        return True  # a heading alone says nothing: it opens what stands below it
    parent = group.path[:-1]
    if section.path[: len(parent)] != parent:
        return False
    return min(group.units, section.units) < tiny and group.units + section.units <= room
