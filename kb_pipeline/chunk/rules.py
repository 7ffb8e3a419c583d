"""The knobs of chunking, and their identity."""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass
from typing import Any, Literal

from kb_pipeline.model import digest

CHUNK_VERSION = "2"
"""Raise it when the same document and rules would give other chunks: stored chunks are then made anew."""


@dataclass(frozen=True, slots=True)
class ChunkingRules:
    """How documents are split."""

    strategy: Literal["by_heading", "sliding_window"] = "by_heading"
    max_tokens: int = 256
    """The most a chunk may count, its context and the model's special tokens included."""
    overlap_tokens: int = 32
    """How much of a chunk the next one of the same section repeats, at most."""
    preserve_code: bool = True
    """Keep code blocks and tables whole where they fit, and cut the others at line ends."""
    tokenizer: str = "multilingual-e5-small"
    """Whose tokens are counted, whatever the embedding model is: another model is then another set of vectors over
    the same chunks. This one knows a hundred languages."""

    join_sections: bool = True
    """Let sections that are too small to be found alone share a chunk with a neighbour."""

    def as_json(self) -> dict[str, Any]:
        """What a version records, to chunk the same way again."""
        return {"version": CHUNK_VERSION, **asdict(self)}

    def fingerprint(self) -> str:
        """Identity of the knobs and of the code behind them."""
        *knobs, join_sections = astuple(self)
        # A knob that came later counts where it was turned only: its coming makes nothing anew.
        apart = [] if join_sections else ["sections apart"]
        return digest("chunking", CHUNK_VERSION, *(str(knob) for knob in knobs), *apart)
