"""Answers of a real KB: quoted word for word from the version that they name, or refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import kb_pipeline
from kb_pipeline.answers.events import Complete
from kb_pipeline.errors import UnknownVersion, UsageError
from kb_pipeline.installation import Kb
from kb_pipeline_tests.published import Published


@pytest.fixture(scope="module")
def kb(first_build: Published) -> Iterator[Kb]:
    with kb_pipeline.open(first_build.kb.folder / "home") as home:
        yield home.kb("acme/docs")


QUESTION = "How long do apples keep in a cool cellar?"


def test_every_citation_stands_in_the_stored_document_where_it_says(kb: Kb) -> None:
    answer = kb.answer(QUESTION)
    assert answer.verdict == "grounded"
    assert answer.sentences
    for citation in answer.citations:
        markdown = kb.document(citation.key, as_of=citation.version).markdown
        assert markdown[citation.start : citation.end] == citation.quote
        passage = answer.passages[citation.number - 1]
        assert (passage.chunk_id, passage.document_id) == (citation.chunk_id, citation.document_id)
        assert citation.quote in passage.text


def test_events_are_numbered_and_tell_what_the_answer_says(kb: Kb) -> None:
    events = list(kb.answer_events(QUESTION))
    assert [each.id for each in events] == list(range(1, len(events) + 1))
    kinds = [each.type for each in events]
    assert kinds[:2] == ["started", "passages"]
    assert kinds[-1] == "complete"
    last = events[-1]
    assert isinstance(last, Complete)
    assert kinds.count("chunk") == len(last.answer.sentences)
    assert kinds.count("citation") == len(last.answer.citations)
    assert last.answer.sentences == kb.answer(QUESTION).sentences, "the same question has the same answer"


def test_a_question_that_nothing_is_found_for_is_refused_without_sentences(kb: Kb) -> None:
    answer = kb.answer(QUESTION, language="ja")
    assert (answer.verdict, answer.sentences, answer.text, answer.score) == ("refused", (), "", 0.0)


def test_what_cannot_be_asked_is_said_at_once(kb: Kb) -> None:
    for question, options in (
        (" ", {}), ("x" * 5000, {}), ("apples", {"k": 0}), ("apples", {"k": 21}), ("apples", {"mode": "magic"}),
    ):  # fmt: skip
        with pytest.raises(UsageError):
            kb.answer_events(question, **options)
    with pytest.raises(UnknownVersion):
        kb.answer("apples", as_of=99)
