"""The words of a query in a text: other forms, other scripts, and what is no more than alike."""

from __future__ import annotations

import pytest

from kb_pipeline.index.query_words import fold, joined_spans, match_quality, read_words, weigh_query


@pytest.mark.parametrize(
    ("asked", "written"),
    [
        ("resume", "Résumé"),
        ("STRASSE", "Straße"),
        ("ızgara", "IZGARA"),
        ("İstanbul", "istanbul"),
        ("Łódź", "lodz"),
        ("كتاب", "كِتاب"),
        ("σοφος", "ΣΟΦΌΣ"),
        ("ﬁle", "file"),
    ],
)
def test_case_and_accents_make_no_other_word(asked: str, written: str) -> None:
    assert match_quality(fold(asked), fold(written)) == 1


@pytest.mark.parametrize(
    ("asked", "written"),
    [
        ("rotate", "rotating"),
        ("token", "tokens"),
        ("keys", "key"),
        ("policy", "policies"),
        ("rotation", "Schlüsselrotation"),
        ("обновление", "обновлений"),
        ("토큰", "토큰을"),
    ],
)
def test_other_forms_of_a_word_count_less(asked: str, written: str) -> None:
    assert 0 < match_quality(fold(asked), fold(written)) < 1
    assert 0 < match_quality(fold(written), fold(asked)) < 1


@pytest.mark.parametrize(
    ("asked", "written"), [("store", "story"), ("when", "where"), ("a", "apple"), ("contact", "contract"), ("犬", "猫")]
)
def test_words_that_look_alike_are_others(asked: str, written: str) -> None:
    assert match_quality(fold(asked), fold(written)) == 0


@pytest.mark.parametrize(
    ("query", "text", "found"),
    [
        ("天気は", "明日の天気は晴れです。", ["天気は"]),
        ("การค้นหา", "วิธีการค้นหาข้อมูล", ["การค้นหา"]),
        ("नमस्ते दुनिया", "यह नमस्ते है", ["नमस्ते"]),
        ("max_pages", "Set `max_pages` to 10.", ["max_pages"]),
    ],
)
def test_words_are_found_where_they_stand_in_any_script(query: str, text: str, found: list[str]) -> None:
    asked = weigh_query(query)
    words = [word for word in read_words(text) if any(match_quality(each, word.folded) == 1 for each in asked)]
    assert [text[start:end] for start, end in joined_spans(words)] == found


def test_short_words_weigh_little_unless_they_are_names() -> None:
    weights = weigh_query("how do I use the S3 API in 5 ways")
    assert {word for word, weight in weights.items() if weight < 0.5} == {"do", "i", "in"}
    assert weights["s3"] == weights["api"] == weights["5"] == weights["ways"] == 1


def test_a_pasted_page_asks_for_its_first_words_only() -> None:
    assert len(weigh_query(" ".join(f"word{number}" for number in range(5000)))) == 100
