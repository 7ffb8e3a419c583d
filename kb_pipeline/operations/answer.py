"""Answers a question from one version of a KB, and tells how the answer comes about."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from kb_pipeline.answers.events import AnswerEvent, Chunk, Cited, Complete, Passages, Started
from kb_pipeline.answers.rank import Candidates, RankedSentence, choose_candidates
from kb_pipeline.answers.result import Answer, AnswerMode, AnswerSentence, Citation, Usage, Verdict, verdict_of
from kb_pipeline.answers.threshold import refusal_threshold
from kb_pipeline.control.db.engine import Database
from kb_pipeline.errors import UsageError
from kb_pipeline.index.filters import read_filter
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.index.search import Hit, search_version
from kb_pipeline.model import EmbeddingModel, KbKey
from kb_pipeline.operations.generate import AnsweringModel, Generated, generate, model_of
from kb_pipeline.operations.observer import Observer
from kb_pipeline.operations.readers import Readers
from kb_pipeline.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_PASSAGES = 20
MAX_QUESTION_CHARS = 4_000
_MODES = ("extractive", "generate")
_SENTENCES = 3
"""Sentences of an extracted answer: on XQuAD the answer is in the best one four times of five, in the best three
nineteen times of twenty."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, of which version."""

    kb: KbKey
    text: str
    mode: AnswerMode = "extractive"
    k: int = 5
    """Passages to answer from."""
    language: str | None = None
    as_of: str | None = None
    filters: Mapping[str, Any] | None = None
    """Which documents to answer from; see `index.filters`."""

    def check(self) -> None:
        """Raise UsageError for what cannot be asked."""
        if not self.text.strip():
            raise UsageError("the question is empty; ask something in a sentence or some words")
        if len(self.text) > MAX_QUESTION_CHARS:
            raise UsageError(f"the question has {len(self.text)} characters; allowed are {MAX_QUESTION_CHARS}")
        if not 1 <= self.k <= MAX_PASSAGES:
            raise UsageError(f"k is {self.k}; allowed are 1 to {MAX_PASSAGES} passages")
        if self.mode not in _MODES:
            raise UsageError(f"mode {self.mode!r} is unknown; allowed are {' and '.join(_MODES)}")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one version says about a question."""

    version: int
    passages: tuple[Hit, ...]
    ranked: tuple[RankedSentence, ...]
    """Sentences of the passages, best first."""
    threshold: float

    @property
    def score(self) -> float:
        """How well the best sentence answers; 0 where nothing was found."""
        return self.ranked[0].score if self.ranked else 0.0

    @property
    def suffices(self) -> bool:
        """Whether the version answers the question at all."""
        return bool(self.ranked) and self.score >= self.threshold


def answer_events(
    settings: Settings, db: Database, readers: Readers, question: Question, cancelled: threading.Event
) -> Iterator[AnswerEvent]:
    """Yield what happens while a question is answered; the last event is `Complete`.

    What can be said at once is raised before anything is yielded.

    Raises:
        UnknownKb, NoLiveVersion, UnknownVersion, TenantInactive, DamagedStore: see `Readers.read`.
        UsageError: an empty question, or k, mode, language or as_of out of range.
    """
    question.check()
    readers.open(question.kb, question.as_of)
    if question.mode == "extractive":
        events = _extracted_events(readers, question)
    else:
        model = model_of(settings, db, question.kb)
        events = _generated_events(settings, db, readers, question, model, cancelled)
    return _observed(events, readers.observer)


def _observed(events: Iterator[AnswerEvent], observer: Observer) -> Iterator[AnswerEvent]:
    for event in events:
        if isinstance(event, Complete):
            observer.note_answer(event.answer.mode, event.answer.verdict)
        yield event


def _extracted_events(readers: Readers, question: Question) -> Iterator[AnswerEvent]:
    started, number = time.monotonic(), _Counter()
    yield Started(number.next(), question.kb, question.text, question.mode)
    evidence = find_evidence(readers, question)
    yield Passages(number.next(), evidence.version, evidence.passages)
    sentences = _extracted(evidence) if evidence.suffices else ()
    for place, sentence in enumerate(sentences):
        yield Chunk(number.next(), place, sentence.text, sentence.supported)
        for citation in sentence.citations:
            yield Cited(number.next(), place, citation)
    usage = Usage(seconds=round(time.monotonic() - started, 6))
    yield Complete(number.next(), _answer(question, evidence, sentences, usage))


def _generated_events(
    settings: Settings,
    db: Database,
    readers: Readers,
    question: Question,
    model: AnsweringModel,
    cancelled: threading.Event,
) -> Iterator[AnswerEvent]:
    started, number = time.monotonic(), _Counter()
    yield Started(number.next(), question.kb, question.text, question.mode)
    evidence, result = find_evidence(readers, question), Generated()
    yield Passages(number.next(), evidence.version, evidence.passages)
    if evidence.suffices:  # else the model is not even asked
        breaker = readers.circuit_breaker(question.kb.tenant, model.endpoint.url)
        sentences = generate(
            settings, db, question.kb, model, question.text, evidence.version, evidence.passages, breaker, cancelled,
            result,
        )  # fmt: skip
        for place, sentence in enumerate(sentences):
            yield Chunk(number.next(), place, sentence.text, sentence.supported)
            for citation in sentence.citations:
                yield Cited(number.next(), place, citation)
    usage = replace(result.usage, seconds=round(time.monotonic() - started, 6))
    answer = _answer(question, evidence, tuple(result.sentences), usage)
    is_partial = answer.verdict == "grounded" and (result.dropped or result.findings)
    verdict: Verdict = "partial" if is_partial else answer.verdict
    kept = () if verdict == "refused" else answer.sentences
    yield Complete(number.next(), replace(answer, verdict=verdict, sentences=kept, findings=tuple(result.findings)))


def find_evidence(readers: Readers, question: Question) -> Evidence:
    """Search a version and rank the sentences of what is found."""
    chosen = None if question.filters is None else read_filter(question.filters)

    def ask(version: VersionReader) -> Evidence:
        vector = _QuestionVector(readers, version.key.tenant, version.manifest.model, question.text)
        hits = search_version(
            version, question.text, lambda _: vector.get(), k=question.k, language=question.language, filters=chosen
        )
        candidates = choose_candidates(question.text, hits)
        return Evidence(
            version.number, tuple(hits), _ranked(readers, version, vector, candidates), refusal_threshold(version)
        )

    return readers.read(question.kb, question.as_of, ask)[1]


def _ranked(
    readers: Readers, version: VersionReader, vector: _QuestionVector, candidates: Candidates
) -> tuple[RankedSentence, ...]:
    if not candidates.sentences:
        return ()
    vectors = readers.embed_sentences(version.key.tenant, version.manifest.model, candidates.texts)
    return tuple(candidates.ranked(vector.get(), vectors))


def _extracted(evidence: Evidence) -> tuple[AnswerSentence, ...]:
    return tuple(
        AnswerSentence(each.sentence.text, True, (_citation(evidence, each),), each.score)
        for each in evidence.ranked[:_SENTENCES]
    )


def _citation(evidence: Evidence, ranked: RankedSentence) -> Citation:
    hit, sentence = evidence.passages[ranked.passage], ranked.sentence
    return Citation(
        number=ranked.passage + 1,
        document_id=hit.document_id,
        key=hit.key,
        title=hit.title,
        chunk_id=hit.chunk_id,
        version=evidence.version,
        start=hit.start + sentence.start,
        end=hit.start + sentence.end,
        quote=hit.text[sentence.start : sentence.end],
    )


def _answer(question: Question, evidence: Evidence, sentences: tuple[AnswerSentence, ...], usage: Usage) -> Answer:
    return Answer(
        kb=question.kb,
        version=evidence.version,
        question=question.text,
        mode=question.mode,
        verdict=verdict_of(sentences),
        score=evidence.score,
        threshold=evidence.threshold,
        sentences=sentences,
        passages=evidence.passages,
        usage=usage,
    )


@dataclass(slots=True)
class _Counter:
    """Numbers the events."""

    last: int = 0

    def next(self) -> int:
        self.last += 1
        return self.last


@dataclass(slots=True)
class _QuestionVector:
    """The vector of a question, made when it is first needed."""

    readers: Readers
    tenant: str
    model: EmbeddingModel
    text: str
    made: NDArray[np.float32] | None = field(default=None)

    def get(self) -> NDArray[np.float32]:
        if self.made is None:
            self.made = self.readers.embed_query(self.tenant, self.model, self.text)
        return self.made
