"""Groups a document's sections: each heading starts one, and tiny ones join their neighbours."""

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
    estimated_tokens: int
    has_body: bool


def read_sections(outline: Outline, tokens: TokenIndex, min_tokens: int, budget: int) -> Iterator[tuple[int, int]]:
    """Yield the spans of sections, without gaps; no span joins sections with different parent headings.

    Args:
        outline: the outline of the document.
        tokens: the token positions of the same text.
        min_tokens: sections with fewer tokens rank badly in search alone, so they join a neighbour if both fit.
        budget: how many tokens a chunk may have.
    """
    group: _Section | None = None
    for section in _sections(outline, tokens):
        if group and _should_join(group, section, min_tokens, budget):
            group.end, group.estimated_tokens = section.end, group.estimated_tokens + section.estimated_tokens
            group.has_body = group.has_body or section.has_body
        else:
            if group:
                yield group.start, group.end
            group = section
    if group:
        yield group.start, group.end


def _sections(outline: Outline, tokens: TokenIndex) -> Iterator[_Section]:
    starts = [0, *outline.heading_starts]
    bodies = _have_bodies(outline)
    for index, start in enumerate(starts):
        end = starts[index + 1] if index + 1 < len(starts) else outline.length
        if end > start:
            path = outline.paths[index - 1] if index else ()
            yield _Section(start, end, path, tokens.estimated_tokens(start, end), index == 0 or bodies[index - 1])


def _have_bodies(outline: Outline) -> list[bool]:
    """Return for each heading whether the block after it is not a heading."""
    headings = set(outline.heading_starts)
    followers = dict(pairwise(outline.starts))
    return [followers.get(start, start) not in headings for start in outline.heading_starts]


def _should_join(group: _Section, section: _Section, min_tokens: int, budget: int) -> bool:
    if not group.has_body and section.path[: len(group.path)] == group.path:
        return True  # a heading without a body belongs to the section below it
    parent = group.path[:-1]
    if section.path[: len(parent)] != parent:
        return False
    return (
        min(group.estimated_tokens, section.estimated_tokens) < min_tokens
        and group.estimated_tokens + section.estimated_tokens <= budget
    )
