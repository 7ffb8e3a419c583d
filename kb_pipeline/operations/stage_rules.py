"""The rules of the stages, from a KB's file and the flags of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kb_pipeline.chunk.rules import ChunkingRules
from kb_pipeline.clean.rules import CleaningRules, library_versions
from kb_pipeline.control.flags.registry import CLEAN_FOCUS, JOIN_SECTIONS
from kb_pipeline.publish.candidate import Recipe
from kb_pipeline.spec.kb_file import KbSpec
from kb_pipeline.spec.sources import WebSource


class StageRules:
    """The cleaning and chunking rules of one run."""

    def __init__(self, spec: KbSpec, flags: Mapping[str, Any]) -> None:
        self._chunking, self._flags = spec.chunking, flags
        self._keep_views = tuple(
            source.name for source in spec.sources if isinstance(source, WebSource) and source.views == "keep"
        )

    @property
    def cleaning(self) -> CleaningRules:
        """How the clean stage reads raw documents."""
        return CleaningRules(focus=self._flags[CLEAN_FOCUS.name], keep_views=self._keep_views)

    @property
    def chunking(self) -> ChunkingRules:
        """How the chunk stage splits documents."""
        return ChunkingRules(
            self._chunking.strategy,
            self._chunking.max_tokens,
            self._chunking.overlap_tokens,
            self._chunking.preserve_code,
            join_sections=self._flags[JOIN_SECTIONS.name],
        )

    def recipe(self) -> Recipe:
        """Return the rules and the versions of the libraries as a version's manifest records them."""
        rules = {"clean": self.cleaning.as_json(), "chunk": self.chunking.as_json()}
        return Recipe(rules, library_versions())
