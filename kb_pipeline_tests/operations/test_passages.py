"""The passage of a hit: around the words of the query, or nearest in meaning, as plain text."""

from __future__ import annotations

from typing import Any

import pytest

from kb_pipeline.index.search import Hit
from kb_pipeline.operations.passages import MAX_CHARS, Passage, choose_passages

FILLER = "The weather of the valley is described elsewhere in some detail. "


def choose(text: str, query: str, **options: Any) -> Passage:
    hit = Hit(1, 1.0, "/page", "Page", (), text, "en", "d", "c", 0, len(text))
    (passage,) = choose_passages([hit], query, **options)
    return passage


def marked(passage: Passage) -> list[str]:
    return [passage.text[start:end] for start, end in passage.marks]


def test_the_sentence_that_answers_is_shown_wherever_it_stands() -> None:
    passage = choose(FILLER * 9 + "Tokens are rotated by `kb key rotate`. " + FILLER * 9, "how do I rotate a token")
    assert "Tokens are rotated by kb key rotate." in passage.text
    assert len(passage.text) <= MAX_CHARS
    assert passage.text.startswith("T"), "it begins with a sentence"
    assert marked(passage) == ["Tokens", "rotated", "rotate"]


def test_rare_words_decide_between_two_places() -> None:
    text = "The page of the list. " * 12 + "A quince is on it. " + "The page of the list. " * 12
    assert "quince" in choose(text, "the page of the quince").text


def test_markup_is_left_out_and_code_keeps_its_lines() -> None:
    text = (
        "## Rotate\n\nSee [the **manual**](https://x.example/m), then:\n\n```sh\nkb key rotate \\\n    --token x\n```\n"
    )
    passage = choose(text, "rotate token")
    assert passage.text == "See the manual, then:\nkb key rotate \\\n    --token x"
    assert marked(passage) == ["rotate", "token"]


def test_a_sentence_longer_than_a_passage_is_cut_around_the_words() -> None:
    passage = choose("word and " * 200 + "the quince " + "and so on " * 200, "quince")
    assert "quince" in passage.text
    assert len(passage.text) <= MAX_CHARS + 4
    assert (passage.text[0], passage.text[-1]) == ("…", "…")


@pytest.mark.parametrize(
    "text", ["天気" * 3000, "x" * 5000, "", "```\n", "# Heading", "| a | b |\n|---|---|\n| 1 | 2 |"]
)
def test_odd_texts_have_a_passage(text: str) -> None:
    passage = choose(text, "天気 x heading")
    assert len(passage.text) <= MAX_CHARS + 4
    assert all(0 <= start < end <= len(passage.text) for start, end in passage.marks)


def test_without_common_words_the_nearest_sentence_is_shown_and_nothing_is_marked() -> None:
    text = FILLER * 9 + "Pears ripen after picking. " + FILLER * 9
    passage = choose(text, "Birnen reifen", similarities=lambda texts: [float("Pears" in each) for each in texts])
    assert "Pears ripen after picking." in passage.text
    assert passage.marks == ()


def test_hits_with_the_words_are_not_compared_by_meaning() -> None:
    def refuse(texts: list[str]) -> list[float]:
        raise AssertionError(texts)

    assert "quince" in choose(FILLER * 9 + "A quince is hard.", "quince", similarities=refuse).text


def test_a_whole_passage_is_all_that_a_hit_says() -> None:
    passage = choose(FILLER * 9 + "A quince is hard.", "quince", whole=True)
    assert passage.text == FILLER * 9 + "A quince is hard."
    assert marked(passage) == ["quince"]
