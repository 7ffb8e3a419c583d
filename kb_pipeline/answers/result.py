"""What an answer consists of: its sentences, what each cites, and how far it is to be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kb_pipeline.answers.verify import Finding
from kb_pipeline.index.search import Hit
from kb_pipeline.model import JsonObject, KbKey, Record

Verdict = Literal["grounded", "partial", "refused"]
AnswerMode = Literal["extractive", "generate"]


@dataclass(frozen=True, slots=True)
class Citation(Record):
    """Where a sentence of an answer comes from: a quote, word for word, and its place in the stored document."""

    number: int
    """Of the passage that it is from, as [1] in a text."""
    document_id: str
    key: str
    """URL, path or row id of the document."""
    title: str
    chunk_id: str
    version: int
    start: int
    """Offset of the quote's first character in the document's Markdown, as that version stores it."""
    end: int
    quote: str
    """Exactly `markdown[start:end]`."""


@dataclass(frozen=True, slots=True)
class AnswerSentence(Record):
    """One sentence of an answer."""

    text: str
    supported: bool
    """Whether every citation of it was verified, and it has one."""
    citations: tuple[Citation, ...] = ()
    score: float | None = None
    """How well it answers the question; None for a model's."""


@dataclass(frozen=True, slots=True)
class Usage(Record):
    """What an answer took."""

    input_tokens: int = 0
    """Tokens that a model read; 0 where none was asked."""
    output_tokens: int = 0
    cost: float | None = None
    """In the currency of the plan's prices; None where the plan names no price of the model."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer(Record):
    """The answer to one question from one version of a KB."""

    kb: KbKey
    version: int
    question: str
    mode: AnswerMode
    verdict: Verdict
    """`grounded`: every sentence is supported; `partial`: some are; `refused`: the version does not answer it."""
    score: float
    """How well the best sentence of the version answers; 0 where none was found."""
    threshold: float
    """What the score must reach for an answer; calibrated when the version was published."""
    sentences: tuple[AnswerSentence, ...]
    """Best first where they are extracted, in the model's order where it wrote them; none in a refusal."""
    passages: tuple[Hit, ...]
    """What was found for the question, best first, also for a refusal."""
    usage: Usage = Usage()
    findings: tuple[Finding, ...] = ()
    """What was wrong with what a model wrote; sentences that were dropped are among it."""

    @property
    def text(self) -> str:
        """The sentences, one after the other; empty for a refusal."""
        return " ".join(each.text for each in self.sentences)

    @property
    def citations(self) -> tuple[Citation, ...]:
        """All citations, in the order of the sentences."""
        return tuple(citation for each in self.sentences for citation in each.citations)

    def as_json(self) -> JsonObject:
        """Return it as `kb ask --json` prints it; `text` included."""
        return Record.as_json(self) | {"text": self.text}


def verdict_of(sentences: Sequence[AnswerSentence]) -> Verdict:
    """Return what is to be said of the sentences of an answer."""
    if not any(each.supported for each in sentences):
        return "refused"
    return "grounded" if all(each.supported for each in sentences) else "partial"
