"""`/v1/chat/completions` and `/v1/responses`: the answer of the KB in OpenAI's forms, whole and streamed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kb_pipeline.installation import Installation
from kb_pipeline.service.openai.answering import REFUSAL
from kb_pipeline_tests.service.serving import DOCS, Client

QUESTION = "Where do apples keep for months?"
MODEL, STORE = "kb/acme.docs", "vs_acme.docs"
TOOL = {"type": "file_search", "vector_store_ids": [STORE]}


def chat(client: Client, question: Any = QUESTION, **asked: Any) -> Any:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]
    return client("POST", "/v1/chat/completions", json={"model": MODEL, "messages": messages} | asked)


def respond(client: Client, **asked: Any) -> Any:
    return client("POST", "/v1/responses", json={"model": MODEL, "input": QUESTION} | asked)


def lines_of(answer: Any) -> list[str]:
    assert answer.headers["content-type"].startswith("text/event-stream")
    return [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]


def test_a_chat_is_answered_in_the_kbs_own_words(acme: Client, api: Installation) -> None:
    told = chat(acme).json()
    expected = api.kb(DOCS).answer(QUESTION)
    message = told["choices"][0]["message"]
    assert (message["content"], told["choices"][0]["finish_reason"]) == (expected.text, "stop")
    assert (told["kb"]["verdict"], told["kb"]["version"]) == (expected.verdict, 1)
    for note, citation in zip(message["annotations"], expected.citations, strict=True):
        place = note["url_citation"]
        assert (place["url"], place["title"]) == (citation.key, citation.title)
        assert message["content"][place["start_index"] : place["end_index"]]
    assert told["usage"]["total_tokens"] == told["usage"]["prompt_tokens"] + told["usage"]["completion_tokens"] > 2


def test_a_streamed_chat_is_the_same_in_chunks(acme: Client) -> None:
    whole = chat(acme).json()
    *lines, last = lines_of(chat(acme, stream=True, stream_options={"include_usage": True}))
    assert last == "[DONE]"
    chunks = [json.loads(line) for line in lines]
    assert {each["object"] for each in chunks} == {"chat.completion.chunk"}
    assert len({each["id"] for each in chunks}) == 1
    deltas = [each["choices"][0]["delta"] for each in chunks if each["choices"]]
    assert "".join(each.get("content", "") for each in deltas) == whole["choices"][0]["message"]["content"]
    assert deltas[-1]["annotations"] == whole["choices"][0]["message"]["annotations"]
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert (chunks[-1]["choices"], chunks[-1]["usage"]) == ([], whole["usage"])


def test_a_response_says_what_was_found_and_cites_files(acme: Client, api: Installation) -> None:
    told = respond(acme, model="any", tools=[TOOL], include=["file_search_call.results"]).json()
    expected = api.kb(DOCS).answer(QUESTION)
    search, message = told["output"]
    assert (search["type"], search["status"], search["queries"]) == ("file_search_call", "completed", [QUESTION])
    assert [each["text"] for each in search["results"]] == [hit.text for hit in expected.passages]
    assert all(0 <= each["score"] <= 1 for each in search["results"])
    (part,) = message["content"]
    assert part["text"] == expected.text
    assert [each["file_id"] for each in part["annotations"]] == [f"file-{c.document_id}" for c in expected.citations]
    ends = [each["index"] for each in part["annotations"]]
    assert ends == sorted(ends)
    assert ends[-1] == len(part["text"])
    assert (told["status"], told["tools"], told["store"]) == ("completed", [TOOL], False)
    assert respond(acme).json()["output"][0]["results"] is None


def test_the_events_of_a_streamed_response_lead_to_the_whole(acme: Client) -> None:
    asked: dict[str, Any] = {"tools": [TOOL], "include": ["file_search_call.results"]}
    events = [json.loads(line) for line in lines_of(respond(acme, stream=True, **asked))]
    assert [each["sequence_number"] for each in events] == list(range(len(events)))
    kinds = list(dict.fromkeys(each["type"].removeprefix("response.") for each in events))
    assert kinds == [
        "created", "in_progress", "output_item.added", "file_search_call.in_progress", "file_search_call.searching",
        "file_search_call.completed", "output_item.done", "content_part.added", "output_text.delta",
        "output_text.annotation.added", "output_text.done", "content_part.done", "completed",
    ]  # fmt: skip
    whole = events[-1]["response"]
    text = "".join(each["delta"] for each in events if each["type"] == "response.output_text.delta")
    assert text == whole["output"][1]["content"][0]["text"]
    notes = [each["annotation"] for each in events if each["type"] == "response.output_text.annotation.added"]
    assert notes == whole["output"][1]["content"][0]["annotations"]
    unstreamed = respond(acme, **asked).json()
    for each in (whole, unstreamed):
        each["kb"].pop("score")
    assert whole["output"][0]["results"] == unstreamed["output"][0]["results"]
    assert whole["kb"] == unstreamed["kb"]


def test_the_last_question_of_a_conversation_is_answered(acme: Client) -> None:
    parts = [{"type": "input_text", "text": QUESTION}]
    turns = [
        {"role": "user", "content": "What are quinces?"},
        {"role": "assistant", "content": "Hard."},
        {"role": "user", "content": parts},
    ]
    assert respond(acme, input=turns).json()["output"][0]["queries"] == [QUESTION]
    assert chat(acme, [{"type": "text", "text": QUESTION}]).json()["choices"] == chat(acme).json()["choices"]


def test_filters_of_the_tool_hold(acme: Client) -> None:
    tool = TOOL | {"filters": {"type": "eq", "key": "title", "value": "Pears"}, "max_num_results": 50}
    told = respond(acme, tools=[tool], include=["file_search_call.results"]).json()
    assert {each["filename"] for each in told["output"][0]["results"]} == {"Pears"}


def test_what_finds_nothing_is_refused_in_words(acme: Client) -> None:
    nothing = TOOL | {"filters": {"type": "eq", "key": "title", "value": "None such"}}
    told = respond(acme, tools=[nothing]).json()
    assert (told["output"][1]["content"][0]["text"], told["kb"]["verdict"]) == (REFUSAL, "refused")
    events = [json.loads(line) for line in lines_of(respond(acme, tools=[nothing], stream=True))]
    assert "".join(each.get("delta", "") for each in events) == REFUSAL


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "asked", "status"),
    [
        ("chat/completions", {"model": "kb/globex.docs", "messages": [{"role": "user", "content": "a"}]}, 404),
        ("chat/completions", {"model": "gpt-9", "messages": [{"role": "user", "content": "a"}]}, 404),
        ("chat/completions", {"model": MODEL, "messages": []}, 422),
        ("chat/completions", {"model": MODEL, "messages": [{"role": "user", "content": " "}]}, 422),
        ("chat/completions", {"model": MODEL, "messages": [{"role": "system", "content": "a"}]}, 422),
        ("chat/completions", {"model": MODEL, "n": 2, "messages": [{"role": "user", "content": "a"}]}, 422),
        (
            "chat/completions",
            {"model": MODEL, "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            422,
        ),
        ("responses", {"model": "kb/globex.docs", "input": "a"}, 404),
        ("responses", {"model": "x", "input": "a", "tools": [TOOL | {"vector_store_ids": ["vs_globex.docs"]}]}, 404),
        ("responses", {"model": "x", "input": "a", "tools": [TOOL | {"vector_store_ids": []}]}, 422),
        ("responses", {"model": "x", "input": "a", "tools": [TOOL, TOOL]}, 422),
        ("responses", {"model": MODEL, "input": "a", "previous_response_id": "resp_1"}, 422),
        ("responses", {"model": MODEL, "input": [{"type": "reasoning"}]}, 422),
        ("responses", {"model": "x", "input": "a", "tools": [TOOL | {"filters": {"type": "eq"}}]}, 422),
    ],
    ids=str,
)
def test_what_cannot_be_answered_is_refused_before_anything_is_sent(
    acme: Client, path: str, asked: dict[str, Any], status: int, stream: bool
) -> None:
    answer = acme("POST", f"/v1/{path}", json=asked | {"stream": stream})
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
