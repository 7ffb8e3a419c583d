"""The sentences of a chunk: where they end in many scripts, and that markup, code and tables stay whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kb_pipeline.answers.sentences import MAX_CHARS, split_sentences


def texts(markdown: str, language: str = "en") -> list[str]:
    return [each.text for each in split_sentences(markdown, language)]


@pytest.mark.parametrize(
    ("language", "sentences"),
    [
        ("en", ["Dr. Smith moved to Washington, D.C. on Jan. 5.", "See Fig. 3.", "It costs 2.50 today!"]),
        ("de", ["Am 3. Oktober 1990 wurde gefeiert.", "Prof. Müller kam, z.B. mit dem Zug."]),
        ("es", ["¿Cuándo abre la Sra. López?", "¡A las nueve!", "Cierra el domingo."]),
        ("zh", ["数据库在凌晨两点备份。", "备份保留三十天！", "谁来做？"]),
        ("ja", ["明日は晴れです。", "傘は要りません！"]),
        ("hi", ["यह पहला वाक्य है।", "यह दूसरा है।"]),
        ("ar", ["هل تعمل الخدمة؟", "نعم، تعمل."]),
        ("ur", ["یہ پہلا جملہ ہے۔", "یہ دوسرا ہے۔"]),
        ("und", ["Of no known language.", "Still two."]),
        ("xx", ["Nor of this one.", "Still two."]),
    ],
)
def test_sentences_end_where_a_language_ends_them(language: str, sentences: list[str]) -> None:
    between = "" if language in ("zh", "ja") else " "
    assert texts(between.join(sentences), language) == sentences


def test_code_links_and_addresses_within_a_sentence_do_not_end_it() -> None:
    markdown = "Call `a.b(). C` or [the docs. All](https://x.example/a?b=c). See https://x.example/a.html?b=1. Done."
    assert texts(markdown) == ["Call a.b(). C or the docs. All.", "See https://x.example/a.html?b=1.", "Done."]


def test_each_item_of_a_list_is_read_on_its_own() -> None:
    assert texts("- apples\n- pears. And plums.\n  They keep.\n\n1. first\n2. second") == [
        "apples", "pears.", "And plums.", "They keep.", "first", "second",
    ]  # fmt: skip


def test_a_row_of_a_table_is_one_sentence() -> None:
    assert texts("| limit | value |\n|---|---|\n| pages | 1,000. At most. |\n| depth | 5 |") == [
        "limit value", "pages 1,000. At most.", "depth 5",
    ]  # fmt: skip


def test_code_is_kept_as_it_is_written_without_its_fences() -> None:
    (found,) = split_sentences("```python\ndef f():\n    return 1. # A. B\n```\n", "en")
    assert found.text == "def f():\n    return 1. # A. B"


def test_headings_are_told_from_text() -> None:
    found = split_sentences("## Rotate a token\n\nUse the page. Then wait.", "en")
    assert [(each.text, each.is_heading) for each in found] == [
        ("Rotate a token", True), ("Use the page.", False), ("Then wait.", False),
    ]  # fmt: skip


def test_emphasis_belongs_to_the_sentence_that_it_closes() -> None:
    assert texts("**Never do this.** *Always* ask.") == ["Never do this.", "Always ask."]


def test_text_without_full_stops_is_cut_at_white_space() -> None:
    found = split_sentences("word " * 1000, "en")
    assert all(len(each.text) <= MAX_CHARS for each in found)
    assert " ".join(each.text for each in found) == ("word " * 1000).strip()


@given(
    st.text(st.sampled_from(list("aB1é你।؟۔。.!? \n\t\r|#>-*_`~[]()<:/\\\"'\u200b\u00ad\u2028\ud800😀")), max_size=120),
    st.sampled_from(["en", "zh", "ar", "hi", "und"]),
)
def test_any_text_gives_sentences_in_order_that_stand_where_they_say(markdown: str, language: str) -> None:
    end = 0
    for each in split_sentences(markdown, language):
        assert end <= each.start < each.end <= len(markdown)
        assert each.text.strip()
        assert each.end - each.start <= MAX_CHARS
        end = each.end


@pytest.mark.parametrize(
    "hostile", ["`" * 20_000, "[" * 20_000, "**" * 10_000, "> " * 5_000, ". " * 10_000, "a" * 50_000]
)
def test_hostile_text_is_split_all_the_same(hostile: str) -> None:
    assert isinstance(split_sentences(hostile, "en"), list)
