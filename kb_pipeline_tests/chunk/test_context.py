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


def test_levels_may_be_skipped() -> None:
    outline = read_outline("### C\n\n# A\n\n#### D\n\n## B\n")
    assert outline.paths == [("C",), ("A",), ("A", "D"), ("A", "B")]
    assert outline.path_at(0) == ("C",)
    assert outline.path_at(8) == ("A",)
