"""Answers to questions: at once as JSON, or as they come about as server-sent events."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header
from pydantic import BaseModel, ConfigDict, Field
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import iterate_in_threadpool

from kb_pipeline.answers.events import AnswerEvent, Complete, Started
from kb_pipeline.answers.result import AnswerMode, Verdict
from kb_pipeline.answers.verify import FindingKind
from kb_pipeline.errors import KbError
from kb_pipeline.installation import Kb
from kb_pipeline.model import JsonObject
from kb_pipeline.service import problems
from kb_pipeline.service.api import shapes
from kb_pipeline.service.api.search import Hit
from kb_pipeline.service.callers import HomeOfCaller
from kb_pipeline.service.names import KbId, KbInPath, kb_id, open_kb

router = APIRouter(tags=["answers"])
MAX_QUESTION_CHARS = 4000
MAX_PASSAGES = 20
_EVENT_STREAM = "text/event-stream"
_PADDING_CHARS = 4096
"""Of a comment at the beginning: proxies that hold back the first 4 KB let the first event through at once."""
_PING_S = 15


class Citation(shapes.Answer):
    """Where a sentence comes from: words that stand in the stored document."""

    number: int = Field(description="Of the passage, from 1, as in [1].")
    document_id: str
    key: str = Field(description="URL, path or row id of the document.")
    title: str
    chunk_id: str
    version: int
    start: int = Field(description="Offset of the quote in the document's Markdown, in characters.")
    end: int
    quote: str = Field(description="Exactly what stands there.")


class Sentence(shapes.Answer):
    """One sentence of an answer."""

    text: str
    supported: bool = Field(description="Whether it has citations and all of them were verified.")
    citations: list[Citation]
    score: float | None


class Usage(shapes.Answer):
    """What the answer took."""

    input_tokens: int
    output_tokens: int
    cost: float | None = Field(description="In the currency of the plan's prices; null where it has none of the model.")
    seconds: float


class Finding(shapes.Answer):
    """One thing that is wrong with what a model wrote."""

    kind: FindingKind
    sentence: int | None = Field(description="Its place among the sentences that the model wrote, from 0.")
    number: int | None = Field(description="Of the passage that it cites.")
    quote: str | None


class AnswerToQuestion(shapes.Answer):
    """The answer to a question from one version of a KB."""

    id: KbId = Field(validation_alias="kb")
    version: int
    question: str
    mode: AnswerMode
    verdict: Verdict = Field(
        description="grounded: every sentence is supported; partial: some are; refused: the version has no answer."
    )
    score: float
    threshold: float = Field(description="What the score must reach, calibrated when the version was published.")
    text: str
    sentences: list[Sentence]
    passages: list[Hit]
    usage: Usage
    findings: list[Finding] = Field(description="What was wrong with what a model wrote.")


class AnswerRequest(BaseModel):
    """What is asked."""

    model_config = ConfigDict(extra="forbid")
    question: str = Field(min_length=1, max_length=MAX_QUESTION_CHARS)
    mode: Literal["extractive", "generate"] = "extractive"
    k: int = Field(default=5, ge=1, le=MAX_PASSAGES, description="Passages to answer from.")
    language: str | None = Field(default=None, pattern="^[a-z]{2,3}$", description="ISO 639.")
    as_of: str | int | None = Field(default=None, description="A version's number, or a time.")
    stream: bool = Field(default=False, description="Whether to send events instead, as with Accept.")


@router.post(
    "/kbs/{kb}/answers",
    response_model=AnswerToQuestion,
    responses={200: {"content": {_EVENT_STREAM: {"schema": {"type": "string"}}}}},
)
def answer(
    kb: KbInPath,
    asked: AnswerRequest,
    home: HomeOfCaller,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Any:  # noqa: ANN401 - an answer or a stream of events
    """Answer a question in the KB's own sentences, or a model's with verified citations.

    With `stream` or `Accept: text/event-stream` the events `started`, `passages`, then `chunk` and `citation` for each
    sentence, and `complete` or `error`, each with its id.
    """
    named = open_kb(home, kb)
    if asked.stream or _EVENT_STREAM in accept:
        return _streamed(named, asked)
    found = named.answer(asked.question, mode=asked.mode, k=asked.k, language=asked.language, as_of=asked.as_of)
    return AnswerToQuestion.model_validate(found)


def _streamed(kb: Kb, asked: AnswerRequest) -> EventSourceResponse:
    cancelled = threading.Event()
    events = kb.answer_events(
        asked.question, mode=asked.mode, k=asked.k, language=asked.language, as_of=asked.as_of, cancelled=cancelled
    )
    return EventSourceResponse(_sent(events, cancelled), ping=_PING_S, headers={"Cache-Control": "no-store"})


async def _sent(events: Iterator[AnswerEvent], cancelled: threading.Event) -> AsyncIterator[ServerSentEvent]:
    last = 0
    try:
        yield ServerSentEvent(comment=" " * _PADDING_CHARS)
        async for event in iterate_in_threadpool(events):
            last = event.id
            yield ServerSentEvent(json.dumps(_shown(event), ensure_ascii=False), event=event.type, id=str(last))
    except KbError as error:
        told = bytes(problems.of_error(error).body).decode()
        yield ServerSentEvent(told, event="error", id=str(last + 1))
    finally:
        cancelled.set()  # also where the client has gone: what still works for it ends


def _shown(event: AnswerEvent) -> JsonObject:
    """Return an event's data, with the KB's id in place of its key."""
    if isinstance(event, Complete):
        return {"answer": AnswerToQuestion.model_validate(event.answer).model_dump(mode="json")}
    told = {name: value for name, value in event.as_json().items() if name not in ("id", "type", "kb")}
    return {"kb": kb_id(event.kb), **told} if isinstance(event, Started) else told
