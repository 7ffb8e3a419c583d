"""Calibrates the score below which a version refuses to answer, by questions that it can answer and cannot.

Questions are made from sentences of the version's own chunks. Each is asked twice: of the whole version, and of the
version without the document that it was made from. The threshold is what refuses four of five of the latter, but never
more than one of ten of the former: where other documents say the same, a refusal would be wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kb_pipeline.answers.rank import Candidates, choose_candidates
from kb_pipeline.answers.sentences import split_sentences
from kb_pipeline.answers.threshold import CALIBRATED_CHUNKS, SCORE_NAME
from kb_pipeline.errors import KbError
from kb_pipeline.index.query_words import joined_spans, read_words
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.publish.probe_queries import Search
from kb_pipeline.store.manifest import Manifest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kb_pipeline.index.search import Hit

SAMPLE = 32
"""Questions, each of which costs a search and five sentences to embed: four of five are then known to 0.07."""
_FEWEST = 8
"""With fewer questions a quantile says nothing: then the model's default holds."""
_PASSAGES = 5
_REFUSED, _LOST = 0.8, 0.1
_KEPT_WHILE = 0.1
"""The threshold of the live version is taken over while the number of chunks differs by no more than this share."""
_FEWEST_WORDS, _QUESTION_WORDS, _UNSPACED_CHARS = 6, 5, 4

logger = logging.getLogger(__name__)


def answer_scores(
    version: VersionReader,
    live: Manifest | None,
    search: Search,
    embed_query: Callable[[str], NDArray[np.float32]],
    embed_sentences: Callable[[list[str]], NDArray[np.float32]],
) -> dict[str, float]:
    """Return what the manifest records of the threshold; nothing where the version is too small to tell.

    No trouble with it keeps a version from being published: one without a threshold goes by its model's default.

    Args:
        version: the candidate.
        live: of the live version, whose threshold is taken over if the candidate is much the same.
        search: searches the candidate.
        embed_query: gives the vector of a question.
        embed_sentences: gives the vectors of sentences.
    """
    if live is not None and _still_holds(version.manifest, live):
        return {name: live.scores[name] for name in (SCORE_NAME, CALIBRATED_CHUNKS)}
    try:
        asked = [_ask(question, search) for question in make_questions(version)]
        threshold = _threshold([each for each in asked if each.without.sentences], embed_query, embed_sentences)
    except (KbError, OSError) as error:
        logger.warning("%s: the threshold of answers was not calibrated: %s", version.key, error)
        return {}
    if threshold is None:
        return {}
    return {SCORE_NAME: round(threshold, 4), CALIBRATED_CHUNKS: float(version.manifest.counts.chunks)}


@dataclass(frozen=True, slots=True)
class MadeQuestion:
    """A question made from a sentence of a document."""

    text: str
    document_id: str


@dataclass(frozen=True, slots=True)
class _Asked:
    question: str
    known: Candidates
    """The best sentence of the whole version."""
    without: Candidates
    """The best sentences of the other documents."""


def make_questions(version: VersionReader) -> list[MadeQuestion]:
    """Return questions from sentences of chunks with the smallest ids, which are hashes: the same at every build."""
    table = version.table("index")
    rows = table.read_columns(["chunk_id"], row_ids=True).sort("chunk_id").head(SAMPLE)
    made = []
    for part in table.take(rows["_rowid"].to_list(), ["chunk_id", "document_id", "text", "language"]):
        for row in part.to_pylist():
            if text := _question(row["text"], row["language"], int(row["chunk_id"][:8], 16)):
                made.append(MadeQuestion(text, row["document_id"]))
    return made


def _question(markdown: str, language: str, draw: int) -> str:
    """Return the longest words of one of the sentences, in order: what a person remembers who asks; may be empty."""
    sentences = [each.text for each in split_sentences(markdown, language) if not each.is_heading]
    worded = [words for text in sentences if len(words := _words(text)) >= _FEWEST_WORDS]
    if not worded:
        return ""
    words = worded[draw % len(worded)]
    longest = sorted(range(len(words)), key=lambda number: (-len(words[number]), number))[:_QUESTION_WORDS]
    return " ".join(words[number] for number in sorted(longest))


def _words(text: str) -> list[str]:
    """Return the words of a sentence; of a script without spaces, pieces of a few characters."""
    runs = [text[start:end] for start, end in joined_spans(read_words(text))]
    if len(runs) >= _FEWEST_WORDS:
        return runs
    return [run[at : at + _UNSPACED_CHARS] for run in runs for at in range(0, len(run), _UNSPACED_CHARS)]


def _ask(question: MadeQuestion, search: Search) -> _Asked:
    hits = search(question.text)
    others = [hit for hit in hits if hit.document_id != question.document_id]
    known = _candidates(question.text, hits)
    return _Asked(question.text, Candidates(known.sentences[:1]), _candidates(question.text, others))


def _candidates(question: str, hits: Sequence[Hit]) -> Candidates:
    return choose_candidates(question, hits[:_PASSAGES])


def _threshold(
    asked: Sequence[_Asked],
    embed_query: Callable[[str], NDArray[np.float32]],
    embed_sentences: Callable[[list[str]], NDArray[np.float32]],
) -> float | None:
    import numpy as np

    if len(asked) < _FEWEST:
        return None
    texts = list(dict.fromkeys(text for each in asked for text in (*each.known.texts, *each.without.texts)))
    place = {text: number for number, text in enumerate(texts)}
    vectors = embed_sentences(texts)

    def best(question: str, candidates: Candidates) -> float:
        chosen = vectors[[place[text] for text in candidates.texts]]
        return candidates.ranked(embed_query(question), chosen)[0].score

    known = [best(each.question, each.known) for each in asked]
    without = [best(each.question, each.without) for each in asked]
    return float(min(np.quantile(without, _REFUSED), np.quantile(known, _LOST)))


def _still_holds(candidate: Manifest, live: Manifest) -> bool:
    calibrated = live.scores.get(CALIBRATED_CHUNKS)
    if calibrated is None or SCORE_NAME not in live.scores or candidate.model != live.model:
        return False
    return abs(candidate.counts.chunks - calibrated) <= _KEPT_WHILE * calibrated
