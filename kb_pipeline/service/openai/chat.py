"""`/v1/chat/completions`: a KB as a model, whose answer to the last question is quoted from it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from kb_pipeline.answers.events import Chunk, Complete
from kb_pipeline.answers.result import Answer
from kb_pipeline.errors import UsageError
from kb_pipeline.model import JsonObject
from kb_pipeline.service.callers import HomeOfCaller
from kb_pipeline.service.openai.answering import (
    REFUSAL,
    Begun,
    Lenient,
    Role,
    TextInput,
    begin,
    kb_of_model,
    streamed,
    summary,
    text_of,
    text_of_answer,
    usage_of,
)

router = APIRouter(tags=["OpenAI"])
_MAX_MESSAGES = 1000


class Message(Lenient):
    """A message of the conversation."""

    role: Role
    content: str | list[TextInput] | None = None


class StreamOptions(Lenient):
    """What a stream tells."""

    include_usage: bool = False


class ChatRequest(Lenient):
    """A conversation: its last question is answered. What concerns a generating model alone is left aside."""

    model: Annotated[str, Field(max_length=200, examples=["kb/acme.handbook"])]
    messages: list[Message] = Field(min_length=1, max_length=_MAX_MESSAGES)
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None


class ChatUsage(BaseModel):
    """Tokens of question and answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletion(BaseModel):
    """The answer, in OpenAI's form; `kb` has its verdict and citations."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: ChatUsage
    kb: dict[str, Any]


@router.post("/chat/completions", response_model=ChatCompletion)
def complete_chat(asked: ChatRequest, home: HomeOfCaller) -> Response:
    """Answer the last question of a conversation from a KB; streamed, in OpenAI's chunks, if that is asked for."""
    question = next((each for each in reversed(asked.messages) if each.role == "user"), None)
    if question is None:
        raise UsageError("messages: none is of role user, so nothing is asked")
    begun = begin(kb_of_model(home, asked.model), text_of(question.content))
    base: JsonObject = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": asked.model}
    if asked.stream:
        has_usage = asked.stream_options is not None and asked.stream_options.include_usage
        return streamed(begun, _chunks(begun, base, has_usage), _failed)
    return JSONResponse(base | {"object": "chat.completion"} | _whole(begun.whole()))


def _whole(answer: Answer) -> JsonObject:
    message = {"role": "assistant", "content": text_of_answer(answer), "refusal": None, "annotations": _cited(answer)}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {"choices": [choice], "usage": _usage(answer), "kb": summary(answer)}


def _chunks(begun: Begun, base: JsonObject, has_usage: bool) -> Iterator[str]:
    base = base | {"object": "chat.completion.chunk"} | ({"usage": None} if has_usage else {})

    def chunk(delta: JsonObject, finish: str | None = None, **more: object) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _line(base | {"choices": [choice]} | more)

    yield chunk({"role": "assistant", "content": ""})
    for event in begun.rest:
        if isinstance(event, Chunk):
            yield chunk({"content": event.text if event.sentence == 0 else f" {event.text}"})
        elif isinstance(event, Complete):
            if not event.answer.text:
                yield chunk({"content": REFUSAL})
            yield chunk({"annotations": _cited(event.answer)}, "stop", kb=summary(event.answer))
            if has_usage:
                yield _line(base | {"choices": [], "usage": _usage(event.answer)})
    yield "data: [DONE]\n\n"


def _failed(message: str) -> Iterator[str]:
    yield _line({"error": {"message": message, "type": "server_error", "param": None, "code": None}})


def _line(data: JsonObject) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


def _cited(answer: Answer) -> list[JsonObject]:
    """Return the place of each cited sentence in the text, and what it cites."""
    found: list[JsonObject] = []
    start = 0
    for sentence in answer.sentences:
        end = start + len(sentence.text)
        for each in sentence.citations:
            place = {"start_index": start, "end_index": end, "url": each.key, "title": each.title}
            found.append({"type": "url_citation", "url_citation": place})
        start = end + 1
    return found


def _usage(answer: Answer) -> JsonObject:
    read, written = usage_of(answer)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
