"""What chats and responses share: which KB answers, what is asked, and the answer's events as they come."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import iterate_in_threadpool

from kb_pipeline.answers.events import AnswerEvent, Complete, Passages, Started
from kb_pipeline.answers.result import Answer
from kb_pipeline.errors import KbError, UnknownKb, UsageError
from kb_pipeline.installation import Installation, Kb
from kb_pipeline.model import JsonObject
from kb_pipeline.service import cl100k
from kb_pipeline.service.names import open_kb
from kb_pipeline.service.openai.models import ANSWERS

REFUSAL = "The knowledge base does not answer this question."
"""The text of an answer that is refused: a client shows a text, and none would look like a failure."""


class Lenient(BaseModel):
    """Base of what these clients send: members that only a generating model has a use for are left aside."""

    model_config = ConfigDict(extra="ignore")


class TextInput(Lenient):
    """A part of a message."""

    type: str
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """An answer that is being made: what was found for it, and what follows."""

    started: Started
    passages: Passages
    rest: Iterator[AnswerEvent]
    cancelled: threading.Event
    """Set, it ends what still works for the answer."""

    def whole(self) -> Answer:
        """Return the answer, when it is complete."""
        return next(event.answer for event in self.rest if isinstance(event, Complete))


def begin(kb: Kb, question: str, **options: Any) -> Begun:  # noqa: ANN401 - as `Kb.answer_events` takes them
    """Begin to answer; what refuses the question is raised here, before anything is sent."""
    cancelled = threading.Event()
    events = kb.answer_events(question, cancelled=cancelled, **options)
    started, passages = next(events), next(events)
    if not isinstance(started, Started) or not isinstance(passages, Passages):
        raise TypeError("an answer begins with Started and Passages")
    return Begun(started, passages, events, cancelled)


def kb_of_model(home: Installation, model: str) -> Kb:
    """Return the KB that a model's name stands for: `kb/tenant.kb`; raise UnknownKb for any other."""
    if not model.startswith(ANSWERS):
        raise UnknownKb(model)
    return open_kb(home, model.removeprefix(ANSWERS))


def text_of(content: str | list[TextInput] | None) -> str:
    """Return the text of a message; raise UsageError for parts that are none, such as images."""
    if content is None or isinstance(content, str):
        return content or ""
    if other := next((part.type for part in content if part.text is None), None):
        raise UsageError(f"a message holds a part of type {other!r}; KBs are asked in text")
    return "\n".join(part.text or "" for part in content)


def text_of_answer(answer: Answer) -> str:
    """Return what a client shows."""
    return answer.text or REFUSAL


def usage_of(answer: Answer) -> tuple[int, int]:
    """Return the tokens of question and answer: those that a model counted, or by cl100k_base where none was asked."""
    if answer.usage.input_tokens:
        return answer.usage.input_tokens, answer.usage.output_tokens
    return cl100k.count_tokens(answer.question), cl100k.count_tokens(text_of_answer(answer))


def summary(answer: Answer) -> JsonObject:
    """Return what OpenAI's shapes have no place for: the verdict, and each citation with its quote."""
    told: JsonObject = answer.as_json()
    citations = [citation.as_json() for citation in answer.citations]
    return {name: told[name] for name in ("version", "verdict", "score", "threshold")} | {"citations": citations}


def streamed(begun: Begun, lines: Iterator[str], failed: Callable[[str], Iterator[str]]) -> StreamingResponse:
    """Return a response of server-sent events that ends the answer's work when the client goes.

    Args:
        begun: the answer that they tell.
        lines: the events.
        failed: gives those that say that the answer failed midway, from a message.
    """

    async def body() -> AsyncIterator[str]:
        try:
            async for line in iterate_in_threadpool(lines):
                yield line
        except KbError as error:
            for line in failed(str(error)):
                yield line
        finally:
            begun.cancelled.set()

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(body(), media_type="text/event-stream", headers=headers)


Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
