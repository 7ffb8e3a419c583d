"""Ranks the sentences of passages by how well they answer a question: by meaning and by the words that they share.

A sentence's score is the cosine of its vector with the question's, plus a share of the question's words, each weighted
by its rarity in the passages. Only the few sentences that are best by words and by the rank of their passage are
embedded: on XQuAD the answer is among the best three as often as if all were (benchmarks/answers.py), in a fifth of
the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING

from kb_pipeline.answers.sentences import Sentence, split_sentences
from kb_pipeline.index.query_words import find_query_words, read_words, weigh_query

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kb_pipeline.index.search import Hit

CANDIDATES = 4
"""Sentences of one question that are embedded, some 5 ms each on a core that multiplies bfloat16 natively."""
_WORDS_WEIGHT = 0.3
"""What all words of the question are worth beside a cosine; set before the first measurement, and never tuned."""
_RANK_WEIGHT = 0.1
"""What the first passage is worth, when candidates are chosen; the second is worth half of it, and so on."""

Embed = Callable[[list[str]], "NDArray[np.float32]"]
"""Gives the vectors of sentences, shape (texts, dimension)."""


@dataclass(frozen=True, slots=True)
class RankedSentence:
    """A sentence of a passage and how well it answers."""

    sentence: Sentence
    passage: int
    """The place of its passage among those that were given, from 0."""
    score: float


@dataclass(frozen=True, slots=True)
class Candidates:
    """The sentences of some passages that may answer a question, of which only words have been compared."""

    sentences: tuple[RankedSentence, ...]
    """Each with the score of its words alone."""

    @property
    def texts(self) -> list[str]:
        """What is to be embedded."""
        return [each.sentence.text for each in self.sentences]

    def ranked(self, question: NDArray[np.float32], vectors: NDArray[np.float32]) -> list[RankedSentence]:
        """Return them, best first.

        Args:
            question: its vector, of length 1.
            vectors: of `texts`, in order.
        """
        cosines = (vectors @ question).tolist()
        scored = (
            RankedSentence(each.sentence, each.passage, round(cosine + _WORDS_WEIGHT * each.score, 6))
            for each, cosine in zip(self.sentences, cosines, strict=True)
        )
        return sorted(scored, key=lambda each: (-each.score, each.passage, each.sentence.start))


def choose_candidates(question: str, passages: Sequence[Hit]) -> Candidates:
    """Return the sentences of passages that are worth to be embedded.

    Args:
        question: as it was asked.
        passages: best first.
    """
    sentences = [(number, each) for number, hit in enumerate(passages) for each in _answering(hit)]
    forms = weigh_query(question)
    found = [find_query_words(forms, {word.folded for word in read_words(each.text)}) for _, each in sentences]
    weights = {
        word: form * log((len(found) + 1) / (sum(word in each for each in found) + 0.5)) for word, form in forms.items()
    }
    total = sum(weights.values()) or 1.0
    overlaps = [sum(weights[word] * quality for word, quality in each.items()) / total for each in found]
    scored = [
        RankedSentence(sentence, number, overlap)
        for (number, sentence), overlap in zip(sentences, overlaps, strict=True)
    ]
    scored.sort(key=lambda each: -(each.score + _RANK_WEIGHT / (1 + each.passage)))  # ties stay in order
    distinct: dict[str, RankedSentence] = {}
    for each in scored:  # chunks overlap, and pages repeat each other
        distinct.setdefault(each.sentence.text, each)
    return Candidates(tuple(distinct.values())[:CANDIDATES])


def _answering(hit: Hit) -> list[Sentence]:
    """Return the sentences of a passage; its headings only if there is nothing else in it."""
    sentences = split_sentences(hit.text, hit.language)
    return [each for each in sentences if not each.is_heading] or sentences
