"""Answers over HTTP: whole, and as events."""

from __future__ import annotations

import json
from typing import Any

from kb_pipeline_tests.service.serving import Client

ANSWERS = "/kbs/acme.docs/answers"
QUESTION = {"question": "How long do apples keep?"}


def events_of(text: str) -> list[tuple[int, str, Any]]:
    """Return id, name and data of each event of a stream, comments left out."""
    told = []
    for block in text.replace("\r\n", "\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if fields:
            told.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return told


def test_an_answer_quotes_the_stored_document(acme: Client) -> None:
    answer = acme.post(ANSWERS, json=QUESTION).json()
    assert (answer["id"], answer["version"], answer["verdict"]) == ("acme.docs", 1, "grounded")
    assert answer["sentences"]
    for sentence in answer["sentences"]:
        (citation,) = sentence["citations"]
        document = acme.get(f"/kbs/acme.docs/documents/{citation['document_id']}").json()
        assert document["markdown"][citation["start"] : citation["end"]] == citation["quote"]


def test_events_end_with_the_answer_that_is_given_at_once(acme: Client) -> None:
    whole = acme.post(ANSWERS, json=QUESTION).json()
    for options in (
        {"json": QUESTION | {"stream": True}},
        {"json": QUESTION, "headers": {"Accept": "text/event-stream"}},
    ):
        answer = acme.post(ANSWERS, **options)
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.text.startswith(":"), "a comment fills what a proxy may hold back"
        told = events_of(answer.text)
        assert [number for number, _, _ in told] == list(range(1, len(told) + 1))
        assert [name for _, name, _ in told][:2] == ["started", "passages"]
        _, last, data = told[-1]
        assert last == "complete"
        assert data["answer"]["sentences"] == whole["sentences"]


def test_what_cannot_be_asked_is_a_problem_before_any_event(acme: Client) -> None:
    for wrong in (
        {"question": ""},
        {"question": "a", "k": 0},
        {"question": "a", "mode": "x"},
        {"question": "a", "as_of": "x"},
    ):
        assert acme.post(ANSWERS, json=wrong | {"stream": True}).status_code == 422
    assert acme.post(ANSWERS, json=QUESTION | {"as_of": 99, "stream": True}).status_code == 404
    assert acme.post(ANSWERS, json=QUESTION | {"mode": "generate"}).status_code == 422


def test_another_tenants_kb_is_not_there(acme: Client, globex: Client) -> None:
    theirs = globex.post(ANSWERS, json=QUESTION)
    none = globex.post("/kbs/acme.none/answers", json=QUESTION)
    assert (theirs.status_code, none.status_code) == (404, 404)
    assert theirs.json()["type"] == none.json()["type"]
    assert acme.post("/kbs/globex.docs/answers", json=QUESTION).status_code == 404
