"""What is told of an answer while it is made: typed events, numbered from 1 in the order in which they happen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kb_pipeline.answers.result import Answer, AnswerMode, Citation
from kb_pipeline.index.search import Hit
from kb_pipeline.model import JsonObject, KbKey, Record


@dataclass(frozen=True, slots=True)
class AnswerEvent(Record):
    """Base of the events of one answer."""

    type: ClassVar[str]
    id: int

    def as_json(self) -> JsonObject:
        """Return the event as it is streamed, its type included."""
        return {"type": self.type, **Record.as_json(self)}


@dataclass(frozen=True, slots=True)
class Started(AnswerEvent):
    """The question was accepted."""

    type: ClassVar[str] = "started"
    kb: KbKey
    question: str
    mode: AnswerMode


@dataclass(frozen=True, slots=True)
class Passages(AnswerEvent):
    """What was found for the question; everything that follows is of this version."""

    type: ClassVar[str] = "passages"
    version: int
    passages: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class Chunk(AnswerEvent):
    """The next sentence of the answer, after its citations were verified."""

    type: ClassVar[str] = "chunk"
    sentence: int
    """Its place in the answer, from 0."""
    text: str
    supported: bool


@dataclass(frozen=True, slots=True)
class Cited(AnswerEvent):
    """A verified citation of the sentence that came before."""

    type: ClassVar[str] = "citation"
    sentence: int
    citation: Citation


@dataclass(frozen=True, slots=True)
class Complete(AnswerEvent):
    """The whole answer, with its verdict and what it took: the last event."""

    type: ClassVar[str] = "complete"
    answer: Answer
