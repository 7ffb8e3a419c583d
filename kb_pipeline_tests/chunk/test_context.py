"""The context of a chunk is short, says what its text does not, and is the same wherever it is made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kb_pipeline.chunk.context import context_line, embedding_text
from kb_pipeline.chunk.outline import heading_name, read_outline
from kb_pipeline.chunk.split import Tokenizer


@pytest.mark.parametrize(
    ("title", "headings", "text", "expected"),
    [
        ("Docs", ("Guide", "Install"), "Run it.", "Docs > Guide > Install"),
        ("Guide", ("Guide", "Install"), "Run it.", "Guide > Install"),
        ("guide", ("Guide",), "# Guide\n\nRun it.", ""),
        ("Docs", ("Guide", "Install"), "## Install\n\nRun it.", "Docs > Guide"),
        ("", (), "Run it.", ""),
        (" Two\nlines ", (), "Run it.", "Two lines"),
    ],
)
def test_context_says_what_the_text_does_not(title: str, headings: tuple[str, ...], text: str, expected: str) -> None:
    assert context_line(title, headings, text) == expected
    assert embedding_text(title, list(headings), text) == (f"{expected}\n\n{text}" if expected else text)


def test_the_nearest_heading_is_kept_longest() -> None:
    path = tuple(f"{name} " * 12 for name in ("outermost", "middle", "innermost"))
    line = context_line("Title", path, "text")
    assert line.startswith("Title > ")
    assert "innermost" in line
    assert "outermost" not in line


@pytest.mark.parametrize("words", ["configuration ", "Einstellungen ", "検索結果", "настройки ", "x9Q-z_", "a" * 5000])
def test_context_never_takes_more_than_a_quarter_of_the_window(tokenizer: Tokenizer, words: str) -> None:
    line = context_line(words * 500, [words * 50] * 6, "text")
    assert 0 < tokenizer.count(line) <= 64


@given(st.text(), st.lists(st.text(), max_size=6), st.text())
def test_context_is_one_line_above_the_text(title: str, headings: list[str], text: str) -> None:
    whole = embedding_text(title, headings, text)
    assert whole.endswith(text)
    assert "\n" not in context_line(title, headings, text)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("# One", "One"),
        ("   ### Three ###  \r\n", "Three"),
        ("## C#", "C#"),
        ("## `code` and [a link](/x) **bold**", "code and a link bold"),
        ("    # indented code", ""),
        ("#hashtag", ""),
        ("####### seven", ""),
        ("#", ""),
        ("# " + "long " * 100, ("long " * 40).strip()),
    ],
)
def test_heading_names_are_words(line: str, name: str) -> None:
    assert heading_name(line) == name


def test_headings_in_code_are_none() -> None:
    shell = "```sh\n# comment\n~~~\n```\n\n"
    tildes = "~~~\n```\n# more\n~~~~\n\n"
    in_a_list = "- ```\n  # in a list\n  ```\n\n"
    markdown = f"# A\n\n{shell}{tildes}{in_a_list}## B\n\n```\n# to the end\n"
    assert read_outline(markdown).paths == [("A",), ("A", "B")]


def test_context_inside_a_table_has_its_columns_and_what_it_is_about() -> None:
    columns = "Article number | Unit price in euro | Delivery time | Storage hall"
    line = context_line("Spare parts", ("Pumps", columns), "| RX-1 | 4.20 | 3 weeks | hall 2 |")
    assert line == f"Spare parts > Pumps > {columns}"
    wide = " | ".join(f"Column {number}" for number in range(99))
    line = context_line("Spare parts", ("Pumps", wide), "| RX-1 |")
    assert line.startswith("Spare parts > Pumps > Column 0 | Column 1 |")
    assert "Column 9" not in line


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("| A | **B** |\n| --- | :-: |\n| 1 | 2 |\n", "A | B"),
        ("> | [A](/x) | `b \\| c` | in<br>euro |\n> |---|---|---|\n> | 1 | 2 | 3 |\n", "A | b | c | in euro"),
        ("|  | 2023 |\r\n| --- | --- |\r\n| a | 1 |\r\n", "2023"),
        ("| 1 | 2 |\n| 3 | 4 |\n| --- | --- |\n", ""),
        ("|  |  |\n| --- | --- |\n| 3 | 4 |\n", ""),
    ],
)
def test_columns_are_known_inside_a_table_with_a_head(table: str, columns: str) -> None:
    outline = read_outline(f"text\n\n{table}\ntext\n")
    start = 6
    assert outline.table_head_at(start) == outline.table_head_at(0) == ""
    assert outline.table_head_at(start + table.rfind("|", 0, -4)) == columns
    assert outline.table_head_at(start + len(table) + 1) == ""


def test_levels_may_be_skipped() -> None:
    outline = read_outline("### C\n\n# A\n\n#### D\n\n## B\n")
    assert outline.paths == [("C",), ("A",), ("A", "D"), ("A", "B")]
    assert outline.path_at(0) == ("C",)
    assert outline.path_at(8) == ("A",)
