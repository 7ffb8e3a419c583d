"""The rules of chunking, and their fingerprint."""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass
from typing import Any, Literal

from kb_pipeline.model import digest

CHUNK_VERSION = "3"
"""Raise it when the same document and rules would give other chunks: stored chunks are then recomputed."""


@dataclass(frozen=True, slots=True)
class ChunkingRules:
    """How documents are split."""

    strategy: Literal["by_heading", "sliding_window"] = "by_heading"
    max_tokens: int = 256
    """The most tokens a chunk may have, including its context line and the model's special tokens."""
    overlap_tokens: int = 32
    """How many tokens of a chunk the next one of the same section may repeat."""
    preserve_code: bool = True
    """Keep code blocks and tables whole if they fit, and cut larger ones at line ends."""
    tokenizer: str = "multilingual-e5-small"
    """The model whose tokens are counted, independent of the embedding model: another embedding model then gives other
    vectors of the same chunks. This tokenizer covers a hundred languages."""

    join_sections: bool = True
    """Let sections that are too small to rank well in search share a chunk with a neighbour."""

    def as_json(self) -> dict[str, Any]:
        """Return what a version records, to chunk the same way again."""
        return {"version": CHUNK_VERSION, **asdict(self)}

    def fingerprint(self) -> str:
        """Return a hash of the rules and of the code version."""
        *fields, join_sections = astuple(self)
        # A rule added later counts only where it is not the default, so adding it recomputes nothing.
        apart = [] if join_sections else ["sections apart"]
        return digest("chunking", CHUNK_VERSION, *(str(value) for value in fields), *apart)
