"""`/v1/responses`: an answer with what was searched for and found, and a citation of a file for each sentence."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag
from starlette.responses import JSONResponse, Response

from kb_pipeline.answers.events import Chunk, Cited, Complete
from kb_pipeline.answers.result import Answer, Citation
from kb_pipeline.errors import UsageError
from kb_pipeline.index.filters import Filter
from kb_pipeline.index.search import Hit, unit_score
from kb_pipeline.installation import Installation, Kb
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
from kb_pipeline.service.openai.vector_stores import (
    FILE_PREFIX,
    MAX_RESULTS,
    RankingOptions,
    attributes_of,
    filename_of,
    open_store,
)

router = APIRouter(tags=["OpenAI"])
_RESULTS = "file_search_call.results"
_MOST_PASSAGES = 20
_MAX_ITEMS = 1000


class InputMessage(Lenient):
    """A message of the conversation; items of other types hold no question."""

    type: str = "message"
    role: Role | None = None
    content: str | list[TextInput] | None = None


class FileSearch(Lenient):
    """The tool that searches a KB."""

    type: Literal["file_search"]
    vector_store_ids: list[Annotated[str, Field(max_length=130)]] = Field(min_length=1, max_length=1)
    max_num_results: int | None = Field(
        default=None, ge=1, le=MAX_RESULTS, description="Passages to answer from; more than 20 are as 20."
    )
    filters: Filter | None = None
    ranking_options: RankingOptions | None = None


class OtherTool(BaseModel):
    """A tool that is not used: sentences are quoted, and nothing is called."""

    model_config = ConfigDict(extra="allow")
    type: str


def _kind(tool: object) -> str:
    named = tool.get("type") if isinstance(tool, dict) else getattr(tool, "type", None)
    return "file_search" if named == "file_search" else "other"


Tool = Annotated[Annotated[FileSearch, Tag("file_search")] | Annotated[OtherTool, Tag("other")], Discriminator(_kind)]


class ResponseRequest(Lenient):
    """What is asked, and of which KB: that of the tool `file_search`, or of the model's name."""

    model: Annotated[str, Field(max_length=200, examples=["kb/acme.handbook"])]
    input: str | Annotated[list[InputMessage], Field(min_length=1, max_length=_MAX_ITEMS)]
    instructions: str | None = Field(default=None, description="Not followed: sentences are quoted.")
    tools: list[Tool] = Field(default=[], max_length=16)
    include: list[str] | None = Field(default=None, max_length=16)
    stream: bool = False
    metadata: dict[str, str] | None = None
    previous_response_id: None = Field(default=None, description="Responses are not stored.")
    store: bool | None = Field(default=None, description="Responses are not stored.")


class ResponseAnswered(BaseModel):
    """The answer, in OpenAI's form; `kb` has its verdict and citations."""

    id: str
    object: Literal["response"]
    created_at: int
    model: str
    status: Literal["completed"]
    output: list[dict[str, Any]]
    usage: dict[str, Any]
    kb: dict[str, Any]


@router.post("/responses", response_model=ResponseAnswered)
def respond(asked: ResponseRequest, home: HomeOfCaller) -> Response:
    """Answer a question from a KB; streamed, as OpenAI's typed events, if that is asked for."""
    kb, tool = _searched(home, asked)
    options: JsonObject = {}
    if tool is not None:
        options = {"filters": tool.filters.model_dump() if tool.filters else None}
        if tool.max_num_results is not None:
            options["k"] = min(tool.max_num_results, _MOST_PASSAGES)
    response = _Response(asked, begin(kb, _question(asked), **options))
    if asked.stream:
        return streamed(response.begun, response.events(), response.failed)
    return JSONResponse(response.whole(response.begun.whole()))


def _searched(home: Installation, asked: ResponseRequest) -> tuple[Kb, FileSearch | None]:
    """Return the KB to answer from, and the tool that names it if one does."""
    given = [each for each in asked.tools if isinstance(each, FileSearch)]
    if not given:
        return kb_of_model(home, asked.model), None
    if len(given) > 1:
        raise UsageError("tools: one file_search with one vector store is allowed; an answer comes from one KB")
    tool = given[0]
    if tool.ranking_options is not None and tool.ranking_options.score_threshold > 0:
        raise UsageError(
            "tools: score_threshold does not apply to answers, which are refused by the KB's own threshold"
        )
    return open_store(home, tool.vector_store_ids[0]), tool


def _question(asked: ResponseRequest) -> str:
    if isinstance(asked.input, str):
        return asked.input
    for item in reversed(asked.input):
        if item.role == "user":
            return text_of(item.content)
    raise UsageError("input: no message is of role user, so nothing is asked")


class _Response:
    """One response: as a whole, or as the events that lead to it."""

    def __init__(self, asked: ResponseRequest, begun: Begun) -> None:
        self._asked, self.begun = asked, begun
        self._number = -1
        self._search_id, self._message_id = f"fs_{uuid.uuid4().hex}", f"msg_{uuid.uuid4().hex}"
        tools = [each.model_dump(exclude_unset=True) for each in asked.tools]
        self._base: JsonObject = {
            "id": f"resp_{uuid.uuid4().hex}", "object": "response", "created_at": int(time.time()),
            "model": asked.model, "error": None, "incomplete_details": None, "instructions": asked.instructions,
            "max_output_tokens": None, "metadata": asked.metadata or {}, "parallel_tool_calls": False,
            "previous_response_id": None, "store": False, "temperature": None, "text": {"format": {"type": "text"}},
            "tool_choice": "auto", "tools": tools, "top_p": None, "truncation": "disabled",
        }  # fmt: skip

    def whole(self, answer: Answer) -> JsonObject:
        """Return the response when it is complete."""
        read, written = usage_of(answer)
        usage = {
            "input_tokens": read, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": written, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": read + written,
        }  # fmt: skip
        output = [self._search("completed"), self._message("completed", text_of_answer(answer), _annotations(answer))]
        return self._base | {"status": "completed", "output": output, "usage": usage, "kb": summary(answer)}

    def events(self) -> Iterator[str]:
        """Yield the events, in OpenAI's order."""
        empty = self._base | {"status": "in_progress", "output": [], "usage": None}
        yield self._event("response.created", response=empty)
        yield self._event("response.in_progress", response=empty)
        yield self._event("response.output_item.added", output_index=0, item=self._search("in_progress"))
        for state in ("in_progress", "searching", "completed"):
            yield self._event(f"response.file_search_call.{state}", output_index=0, item_id=self._search_id)
        yield self._event("response.output_item.done", output_index=0, item=self._search("completed"))
        message = self._message("in_progress", "", []) | {"content": []}
        yield self._event("response.output_item.added", output_index=1, item=message)
        yield self._of_part("response.content_part.added", part=_part("", []))
        yield from self._told()

    def failed(self, message: str) -> Iterator[str]:
        """Yield the event that says that the answer failed midway."""
        error = {"code": "server_error", "message": message}
        failed = self._base | {"status": "failed", "error": error, "output": [], "usage": None}
        yield self._event("response.failed", response=failed)

    def _told(self) -> Iterator[str]:
        chars = cited = 0
        for event in self.begun.rest:
            if isinstance(event, Chunk):
                yield self._delta(event.text if event.sentence == 0 else f" {event.text}")
                chars += len(event.text) + (event.sentence > 0)
            elif isinstance(event, Cited):
                annotation = _annotation(event.citation, chars)
                yield self._of_part(
                    "response.output_text.annotation.added", annotation_index=cited, annotation=annotation
                )
                cited += 1
            elif isinstance(event, Complete):
                if not event.answer.text:
                    yield self._delta(REFUSAL)
                yield from self._ended(event.answer)

    def _ended(self, answer: Answer) -> Iterator[str]:
        text, annotations = text_of_answer(answer), _annotations(answer)
        yield self._of_part("response.output_text.done", text=text, logprobs=[])
        yield self._of_part("response.content_part.done", part=_part(text, annotations))
        message = self._message("completed", text, annotations)
        yield self._event("response.output_item.done", output_index=1, item=message)
        yield self._event("response.completed", response=self.whole(answer))

    def _delta(self, text: str) -> str:
        return self._of_part("response.output_text.delta", delta=text, logprobs=[])

    def _of_part(self, kind: str, **fields: object) -> str:
        return self._event(kind, item_id=self._message_id, output_index=1, content_index=0, **fields)

    def _event(self, kind: str, **fields: object) -> str:
        self._number += 1
        data = {"type": kind, "sequence_number": self._number} | fields
        return f"event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"

    def _search(self, status: str) -> JsonObject:
        is_told = status == "completed" and _RESULTS in (self._asked.include or ())
        passages = self.begun.passages
        return {
            "id": self._search_id,
            "type": "file_search_call",
            "status": status,
            "queries": [self.begun.started.question],
            "results": [_result(each, passages.version) for each in passages.passages] if is_told else None,
        }

    def _message(self, status: str, text: str, annotations: list[JsonObject]) -> JsonObject:
        return {
            "id": self._message_id, "type": "message", "role": "assistant", "status": status,
            "content": [_part(text, annotations)],
        }  # fmt: skip


def _part(text: str, annotations: list[JsonObject]) -> JsonObject:
    return {"type": "output_text", "text": text, "annotations": annotations, "logprobs": []}


def _annotations(answer: Answer) -> list[JsonObject]:
    """Return the citations, each at the end of its sentence in the text."""
    found: list[JsonObject] = []
    end = -1
    for sentence in answer.sentences:
        end += 1 + len(sentence.text)
        found += [_annotation(each, end) for each in sentence.citations]
    return found


def _annotation(citation: Citation, index: int) -> JsonObject:
    return {
        "type": "file_citation",
        "file_id": f"{FILE_PREFIX}{citation.document_id}",
        "filename": citation.title or citation.key,
        "index": index,
    }


def _result(hit: Hit, version: int) -> JsonObject:
    return {
        "file_id": f"{FILE_PREFIX}{hit.document_id}",
        "filename": filename_of(hit),
        "score": round(unit_score(hit.score, "hybrid"), 6),
        "text": hit.text,
        "attributes": attributes_of(hit, version),
    }
