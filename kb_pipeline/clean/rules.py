"""The knobs of cleaning, with a fingerprint of those that change what comes out."""

from __future__ import annotations

from dataclasses import dataclass

from kb_pipeline.model import digest

CLEAN_VERSION = "1"
"""Raise it when the same bytes and rules would give another document: every stored one is then made again."""


@dataclass(frozen=True, slots=True)
class CleaningRules:
    """How documents are cleaned, and what a single one may cost."""

    min_words: int = 1
    """A document of fewer words is rejected as `no_text`."""
    timeout_s: float = 20.0
    """Wall time that one document may take before it is given up."""
    memory_mb: int = 1024
    """Address space that one worker may take beyond what it has at its start."""
    workers: int = 2
    max_tasks: int = 500
    """Documents after which a worker is replaced, so that leaks and fragmentation cannot add up."""

    def fingerprint(self) -> str:
        """The identity of the knobs that change output; what a document may cost is not among them."""
        return digest("clean", CLEAN_VERSION, str(self.min_words))
