"""What a model writes is read as sentences with what they cite, however it comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kb_pipeline.answers.draft import Cites, DraftReader, DraftSentence, read_line


def read(text: str) -> list[DraftSentence]:
    reader = DraftReader()
    return [*reader.feed(text), *reader.end()]


def test_a_sentence_a_line_with_its_quotes() -> None:
    assert read('Returns take 90 days. [1: "within 90 days"] [2: "after three of them"]\nDone.') == [
        DraftSentence("Returns take 90 days.", (Cites(1, "within 90 days"), Cites(2, "after three of them"))),
        DraftSentence("Done.", ()),
    ]


@pytest.mark.parametrize(
    ("line", "read_as"),
    [
        ("A is so [1]. B is not [2, 3].", [("A is so", [1]), ("B is not", [2, 3])]),
        ("A is so. B is so. [7]", [("A is so.", []), ("B is so.", [7])]),
        ("- **A** is so [1]", [("A is so", [1])]),
        ('A says "hello" [1: "he said "hello" twice"].', [('A says "hello"', [1])]),
        ("", []),
        ('[1: "only a quote"]', [("", [1])]),
    ],
)
def test_other_forms_are_read_as_well_as_they_can_be(line: str, read_as: list[tuple[str, list[int]]]) -> None:
    assert [(each.text, [cited.number for cited in each.cites]) for each in read_line(line)] == read_as


@pytest.mark.parametrize(
    "text", ["NO_ANSWER", "I don't know.", "The passages do not say.", "Das ist nicht bekannt: ich weiß nicht."]
)
def test_a_refusal_is_told_from_an_answer(text: str) -> None:
    assert read(text)[0].refuses
    assert not read("Tokens are rotated every week.")[0].refuses


@given(st.text(max_size=80), st.lists(st.integers(0, 80), max_size=5))
def test_it_does_not_matter_in_which_pieces_a_text_comes(text: str, cuts: list[int]) -> None:
    reader, start = DraftReader(), 0
    found: list[DraftSentence] = []
    for cut in sorted(cuts):
        found += reader.feed(text[start : max(start, cut)])
        start = max(start, cut)
    found += [*reader.feed(text[start:]), *reader.end()]
    assert found == read(text)
