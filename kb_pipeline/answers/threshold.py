"""The score below which a version is taken not to answer a question: calibrated at publish, stored in its manifest."""

from __future__ import annotations

from kb_pipeline.index.reader import VersionReader

SCORE_NAME = "answer_threshold"
"""Among the scores of a version's manifest."""
CALIBRATED_CHUNKS = "answer_threshold_chunks"
"""Beside it: how many chunks the version had for which it was calibrated."""
_DEFAULTS = {"multilingual-e5-small": 0.91}
"""For versions of earlier releases, by model: what refuses four of five questions that are not answered, on XQuAD."""
_UNKNOWN_MODEL = 0.0
"""The cosines of a model that was not measured say nothing by themselves: then only what finds nothing is refused."""


def refusal_threshold(version: VersionReader) -> float:
    """Return what the best sentence must score for the version to answer."""
    default = _DEFAULTS.get(version.manifest.model.name, _UNKNOWN_MODEL)
    return version.manifest.scores.get(SCORE_NAME, default)
