"""Splits one document into chunks of limited size, cut at headings, blocks, sentences or words."""

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

_NOT_BLANK = re.compile(r"\S")
_MIN_BUDGET = 8
"""Tokens for text that remain whatever the context line takes."""


def chunk_document(markdown: str, title: str, rules: ChunkingRules, tokenizer: Tokenizer) -> list[Chunk]:
    """Split a document; the chunks, in order, hold every character of `markdown` that is not white space.

    Args:
        markdown: the document; the offsets of chunks refer to it.
        title: the document's title, part of every chunk's context line.
        rules: how to split.
        tokenizer: the tokenizer that the rules name.
    """
    outline = read_outline(markdown, preserve_blocks=rules.preserve_code)
    splitter = _Splitter(markdown, title, rules, tokenizer, outline, TokenIndex(markdown, tokenizer))
    return [
        Chunk(ordinal, start, end, splitter.headings(start), markdown[start:end], tokens)
        for ordinal, (start, end, tokens) in enumerate(splitter.chunks())
    ]


@dataclass(slots=True)
class _Splitter:
    """The state of splitting one document."""

    markdown: str
    title: str
    rules: ChunkingRules
    tokenizer: Tokenizer
    outline: Outline
    token_index: TokenIndex
    _contexts: dict[int, tuple[tuple[str, ...], int]] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    @property
    def limit(self) -> int:
        return self.rules.max_tokens

    def chunks(self) -> Iterator[tuple[int, int, int]]:
        """Yield start, end and tokens of each chunk."""
        whole = (0, len(self.markdown))
        min_tokens = self.limit // 4 if self.rules.join_sections else 0
        is_by_heading = self.rules.strategy == "by_heading"
        for start, end in (
            read_sections(self.outline, self.token_index, min_tokens, self._budget(0)) if is_by_heading else [whole]
        ):
            yield from self._windows(start, end)

    def headings(self, start: int) -> tuple[str, ...]:
        """Return the heading path at `start`, shortened so that three quarters of the limit remain for the text.

        Inside a table its column names come last: the rows of a long table are cut off from its head row.
        """
        return self._context(start)[0]

    def _windows(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        covered = start
        while (start := self._skip_blanks(start, end)) < end:
            stop, tokens = self._fit(start, covered, end)
            if stop <= covered:  # the overlap left no room for new text
                start = covered
                continue
            yield start, start + len(self.markdown[start:stop].rstrip()), tokens
            if self._skip_blanks(stop, end) >= end:
                return
            covered = stop
            start = overlap_start(
                self.markdown, self.outline, self.token_index, start, stop, self._overlap(start, stop)
            )

    def _fit(self, start: int, covered: int, end: int) -> tuple[int, int]:
        """Return the best stop, and the exact number of tokens embedded up to there."""
        budget = self._budget(start)
        while True:
            stop = best_stop(self.markdown, self.outline, self.token_index, start, covered, end, budget)
            tokens = self._measure(start, stop)
            if tokens <= self.limit or budget == 1:
                return stop, tokens
            budget = max(1, min(budget - 1, budget * self.limit // tokens))

    def _measure(self, start: int, stop: int) -> int:
        text = self.markdown[start:stop].rstrip()
        path, context = self._context(start)
        if not self.tokenizer.adds_up:
            return self.tokenizer.overhead + self.tokenizer.count(embedding_text(self.title, path, text))
        return self.tokenizer.overhead + context + self.token_index.count(start, start + len(text))

    def _budget(self, start: int) -> int:
        return max(_MIN_BUDGET, self.limit - self.tokenizer.overhead - self._context(start)[1])

    def _overlap(self, start: int, stop: int) -> int:
        # A block that should not be cut may need the whole budget.
        if self.outline.unsplittable_at(self._skip_blanks(stop, len(self.markdown))):
            return 0
        return min(self.rules.overlap_tokens, self._budget(start) // 2)

    def _context(self, start: int) -> tuple[tuple[str, ...], int]:
        """Return the heading path at `start`, shortened to its share, and the tokens of the context line."""
        if start not in self._contexts:
            opening = self.markdown[start : start + 1000]
            path = self.outline.path_at(start)
            if columns := self.outline.table_head_at(start):
                path = (*path, columns)
            while (tokens := self._count(context_line(self.title, path, opening))) > self.limit // 4 and path:
                path = path[1:]
            self._contexts[start] = path, tokens
        return self._contexts[start]

    def _count(self, line: str) -> int:
        if line not in self._counts:
            self._counts[line] = self.tokenizer.count(line)
        return self._counts[line]

    def _skip_blanks(self, start: int, end: int) -> int:
        found = _NOT_BLANK.search(self.markdown, start, end)
        return found.start() if found else end
