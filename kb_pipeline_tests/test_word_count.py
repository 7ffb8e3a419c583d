"""Words are counted in every script."""

from __future__ import annotations

import pytest

from kb_pipeline.word_count import count_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 0),
        ("Open from 9 to 5.", 5),
        ("el niño_2 — don't", 4),
        ("港の船は毎朝八時に出ます。", 6),
        ("iPhoneの値段", 3),
        ("Мы открыты", 2),
        ("영업 시간", 2),
    ],
)
def test_words_of_a_text(text: str, words: int) -> None:
    assert count_words(text) == words


def test_thai_and_han_count_by_characters() -> None:
    assert 8 <= count_words("ร้านปิดวันอาทิตย์และวันหยุด") <= 14
    assert count_words("字" * 100) == 50
