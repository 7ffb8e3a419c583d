"""Splits one document into chunks of at most so many tokens, cut where reading is disturbed least."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from kb_pipeline.chunk.boundaries import best_stop, overlap_start
from kb_pipeline.chunk.context import context_line, embedding_text
from kb_pipeline.chunk.outline import Outline, read_outline
from kb_pipeline.chunk.rules import ChunkingRules
from kb_pipeline.chunk.sections import read_sections
from kb_pipeline.chunk.token_counter import TokenIndex, Tokenizer
from kb_pipeline.model import Chunk

__all__ = ["Tokenizer", "chunk_document", "embedding_text"]

_SOLID = re.compile(r"\S")
_LEAST_ROOM = 8
"""Tokens for text, whatever the context takes: only a title of odd characters in a tiny window comes near it."""


def chunk_document(markdown: str, title: str, rules: ChunkingRules, tokenizer: Tokenizer) -> list[Chunk]:
    """Chunks that together hold every character of `markdown` but white space, in order.

    Args:
        markdown: the document; offsets in the chunks are into it.
        title: stands in the context of every chunk.
        rules: the knobs.
        tokenizer: the one that the rules name.
    """
    outline = read_outline(markdown, keeps_blocks=rules.preserve_code)
    splitter = _Splitter(markdown, title, rules, tokenizer, outline, TokenIndex(markdown, tokenizer))
    return [
        Chunk(ordinal, start, end, splitter.headings(start), markdown[start:end], tokens)
        for ordinal, (start, end, tokens) in enumerate(splitter.chunks())
    ]


@dataclass(slots=True)
class _Splitter:
    """One document being split."""

    markdown: str
    title: str
    rules: ChunkingRules
    tokenizer: Tokenizer
    outline: Outline
    ruler: TokenIndex
    _contexts: dict[int, tuple[tuple[str, ...], int]] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    @property
    def limit(self) -> int:
        return self.rules.max_tokens

    def chunks(self) -> Iterator[tuple[int, int, int]]:
        """Start, end and tokens of each chunk."""
        whole = (0, len(self.markdown))
        tiny = self.limit // 4 if self.rules.join_sections else 0
        is_by_heading = self.rules.strategy == "by_heading"
        for start, end in read_sections(self.outline, self.ruler, tiny, self._room(0)) if is_by_heading else [whole]:
            yield from self._windows(start, end)

    def headings(self, start: int) -> tuple[str, ...]:
        """The path at `start`; in a tiny window only as much of it as leaves three quarters to the text."""
        return self._context(start)[0]

    def _windows(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        covered = start
        while (start := self._skip_blanks(start, end)) < end:
            stop, tokens = self._fit(start, covered, end)
            if stop <= covered:  # what was to be repeated left no room for anything new
                start = covered
                continue
            yield start, start + len(self.markdown[start:stop].rstrip()), tokens
            if self._skip_blanks(stop, end) >= end:
                return
            covered = stop
            start = overlap_start(self.markdown, self.outline, self.ruler, start, stop, self._overlap(start, stop))

    def _fit(self, start: int, covered: int, end: int) -> tuple[int, int]:
        """The best stop, and the true count of what is embedded up to there."""
        room = self._room(start)
        while True:
            stop = best_stop(self.markdown, self.outline, self.ruler, start, covered, end, room)
            tokens = self._measure(start, stop)
            if tokens <= self.limit or room == 1:
                return stop, tokens
            room = max(1, min(room - 1, room * self.limit // tokens))

    def _measure(self, start: int, stop: int) -> int:
        text = self.markdown[start:stop].rstrip()
        path, context = self._context(start)
        if not self.tokenizer.adds_up:
            return self.tokenizer.overhead + self.tokenizer.count(embedding_text(self.title, path, text))
        return self.tokenizer.overhead + context + self.ruler.count(start, start + len(text))

    def _room(self, start: int) -> int:
        return max(_LEAST_ROOM, self.limit - self.tokenizer.overhead - self._context(start)[1])

    def _overlap(self, start: int, stop: int) -> int:
        # A block that must not be cut may need all the room there is.
        if self.outline.kept_block_at(self._skip_blanks(stop, len(self.markdown))):
            return 0
        return min(self.rules.overlap_tokens, self._room(start) // 2)

    def _context(self, start: int) -> tuple[tuple[str, ...], int]:
        """The heading path at `start` as far as there is room for it, and the tokens of the context line."""
        if start not in self._contexts:
            opening = self.markdown[start : start + 1000]
            path = self.outline.path_at(start)
            while (tokens := self._count(context_line(self.title, path, opening))) > self.limit // 4 and path:
                path = path[1:]
            self._contexts[start] = path, tokens
        return self._contexts[start]

    def _count(self, line: str) -> int:
        if line not in self._counts:
            self._counts[line] = self.tokenizer.count(line)
        return self._counts[line]

    def _skip_blanks(self, start: int, end: int) -> int:
        solid = _SOLID.search(self.markdown, start, end)
        return solid.start() if solid else end
