"""Chunks hold the whole document, fit the window, and are cut where it hurts least."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kb_pipeline.chunk.rules import CHUNK_VERSION, ChunkingRules
from kb_pipeline.chunk.split import Tokenizer, chunk_document, embedding_text
from kb_pipeline.model import Chunk, digest
from kb_pipeline_tests.chunk.conftest import SENTENCES

_PIECES = st.sampled_from(
    [
        "# Title\n", "## Part ##\n", "\n#### Deep\n", "#\n", "#no heading\n", "- item\n", "1. item\n", "> quoted\n",
        "\n", "\n\n", "\r\n", "\r", "\t", " ", "  ", "\x00", "\x1c", "\u200b", "\u00a0", "\u2028", "\ud800", "\ufeff",
        "```python\n", "```\n", "~~~~\n", "x = 1\n", "    indented\n", "| a | b |\n", "|---|---|\n", "`" * 9, "<!--\n",
        "A sentence. Another one! ", "word ", "supercalifragilisticexpialidocious", "a" * 150, "é" * 40, SENTENCES,
        "検索結果には出典が表示されます。", "يتم نشر كل إصدار. ", "ﷺ", "e\u0301", "\u0301", "ａ", "👩‍👩‍👧‍👦", "🤯🤯🤯 ",
        "\\", "*", "[link](http://x.y/z)",
    ]
)  # fmt: skip
_MARKDOWN = st.lists(st.one_of(_PIECES, st.text(max_size=20)), max_size=60).map("".join)
_RULES = st.builds(
    ChunkingRules,
    strategy=st.sampled_from(["by_heading", "sliding_window"]),
    max_tokens=st.sampled_from([64, 100, 256, 8192]),
    overlap_tokens=st.sampled_from([0, 8, 32]),
    preserve_code=st.booleans(),
    join_sections=st.booleans(),
)


def check_chunks(markdown: str, title: str, rules: ChunkingRules, tokenizer: Tokenizer) -> list[Chunk]:
    """Split, and check all that must hold of every document."""
    chunks = chunk_document(markdown, title, rules, tokenizer)
    covered = np.zeros(len(markdown), dtype=bool)
    for ordinal, chunk in enumerate(chunks):
        assert chunk.ordinal == ordinal
        assert 0 <= chunk.start < chunk.end <= len(markdown)
        assert chunk.text == markdown[chunk.start : chunk.end]
        assert chunk.text.strip() == chunk.text != ""
        embedded = embedding_text(title, chunk.headings, chunk.text)
        assert chunk.tokens == tokenizer.overhead + tokenizer.count(embedded)
        assert chunk.tokens <= rules.max_tokens
        covered[chunk.start : chunk.end] = True
    assert all(one.start < other.start and one.end < other.end for one, other in pairwise(chunks))
    assert all(markdown[offset].isspace() for offset in np.flatnonzero(~covered))
    return chunks


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(markdown=_MARKDOWN, title=st.text(max_size=80), rules=_RULES)
def test_chunks_of_any_text_hold_all_of_it_in_order(
    tokenizer: Tokenizer, markdown: str, title: str, rules: ChunkingRules
) -> None:
    check_chunks(markdown, title, rules, tokenizer)


@pytest.mark.parametrize("strategy", ["by_heading", "sliding_window"])
def test_chunks_of_a_guide_are_neither_crumbs_nor_too_long(
    tokenizer: Tokenizer, guide: str, strategy: Literal["by_heading", "sliding_window"]
) -> None:
    chunks = check_chunks(guide, "Guide", ChunkingRules(strategy), tokenizer)
    assert min(chunk.tokens for chunk in chunks) >= 48
    assert len(chunks) >= 5


def test_nothing_gives_no_chunk(minilm: Tokenizer) -> None:
    for blank in ("", "\n\n \t\r\n", "\u2003" * 5000):
        assert chunk_document(blank, "Title", ChunkingRules(), minilm) == []


def test_headings_are_the_path_at_the_start(minilm: Tokenizer, guide: str) -> None:
    chunks = chunk_document(guide, "Guide", ChunkingRules(), minilm)
    paths = {chunk.headings for chunk in chunks}
    assert {("Guide",), ("Guide", "Install"), ("Guide", "Limits")} <= paths
    (linux,) = (chunk for chunk in chunks if chunk.headings == ("Guide", "Install", "On Linux"))
    assert linux.text.startswith("### On Linux")
    assert not any("not a heading" in path for path in paths)


def test_sections_of_different_parents_are_not_mixed(minilm: Tokenizer) -> None:
    markdown = "# A\n\n## A1\n\nshort\n\n## A2\n\nshort\n\n# B\n\n## B1\n\nshort\n\n### B1a\n\ntiny\n"
    deep = "# R\n\n## A\n\n### A1\n\none\n\n## B\n\ntwo\n"
    assert [chunk.headings for chunk in chunk_document(markdown, "", ChunkingRules(), minilm)] == [("A",)]
    chunks = chunk_document(f"## A\n\n### A1\n\n{SENTENCES * 4}\n\n## B\n\ntwo\n", "", ChunkingRules(), minilm)
    assert chunks[-1].headings == ("B",)
    assert len(chunk_document(deep, "", ChunkingRules(), minilm)) == 1


def test_a_heading_is_not_left_alone(minilm: Tokenizer) -> None:
    markdown = f"# Title\n\n## Part\n\n{SENTENCES * 5}\n"
    for strategy in ("by_heading", "sliding_window"):
        first = chunk_document(markdown, "", ChunkingRules(strategy), minilm)[0]
        assert first.text.startswith("# Title\n\n## Part\n\nThe crawler")


def test_code_and_tables_that_fit_stay_whole(minilm: Tokenizer, guide: str) -> None:
    code = guide[guide.index("```python") : guide.index("```\n\n", guide.index("```python") + 5) + 3]
    table = guide[guide.index("| limit") : guide.index("| pages 9 | 9000 |") + 18]
    for strategy in ("by_heading", "sliding_window"):
        texts = [chunk.text for chunk in chunk_document(guide, "Guide", ChunkingRules(strategy), minilm)]
        assert sum(code in text for text in texts) == 1
        assert sum(table in text for text in texts) == 1


def test_code_that_does_not_fit_is_cut_at_line_ends_and_not_repeated(minilm: Tokenizer) -> None:
    lines = [f"value_{n} = compute({n}, 'Some text. Another sentence.')" for n in range(120)]
    markdown = "Before.\n\n```python\n" + "\n".join(lines) + "\n```\n\nAfter.\n"
    chunks = check_chunks(markdown, "Code", ChunkingRules(), minilm)
    shown = [line for chunk in chunks for line in chunk.text.splitlines()]
    assert [line for line in shown if line.startswith("value_")] == lines


def test_cuts_are_at_sentence_ends_and_overlap_by_whole_sentences(minilm: Tokenizer) -> None:
    text = "".join(f"This is sentence number {n} of a long paragraph without any break. " for n in range(120))
    chunks = check_chunks(text, "", ChunkingRules("sliding_window"), minilm)
    assert all(chunk.text.endswith("break.") and chunk.text.startswith("This is") for chunk in chunks)
    for one, other in pairwise(chunks):
        assert 0 < minilm.count(text[other.start : one.end]) <= 32


def test_without_overlap_nothing_is_repeated(minilm: Tokenizer, guide: str) -> None:
    chunks = check_chunks(guide, "Guide", ChunkingRules("sliding_window", overlap_tokens=0), minilm)
    assert all(one.end <= other.start for one, other in pairwise(chunks))


def test_a_tokenizer_whose_counts_do_not_add_up_counts_each_chunk(minilm: Tokenizer, guide: str) -> None:
    class Greedy:
        """Counts two tokens more for every text, as some do for a leading space."""

        overhead, adds_up = minilm.overhead, False

        def spans(self, text: str) -> NDArray[np.int64]:
            return minilm.spans(text)

        def count(self, text: str) -> int:
            return minilm.count(text) + 2 if text else 0

    check_chunks(guide, "Guide", ChunkingRules(), Greedy())


HOSTILE = {
    "one line": "word " * 200_000,
    "one word": "a" * 1_000_000,
    "one character": "ﷺ" * 50_000,
    "emoji": "🤯" * 300_000,
    "blanks": "a" + " " * 1_000_000 + "b",
    "line ends": "\n" * 1_000_000 + "a",
    "carriage returns": "a\r" * 300_000,
    "headings": "# a\n" * 100_000,
    "empty headings": "#\n" * 300_000,
    "heading": "# " + "a " * 500_000,
    "blank heading": "#" + " \t" * 500_000 + "a",
    "open fence": "```\n" + "x = 1\n" * 150_000,
    "fences": "```\n~~~\n" * 100_000,
    "backticks": "`" * 1_000_000,
    "nesting": "> " * 500_000 + "a",
    "table": "|a" * 500_000 + "|\n",
    "brackets": "[" * 500_000 + "](" * 100_000,
    "nul": "\x00" * 500_000,
    "full stops": "." * 1_000_000,
    "japanese": "検索結果には出典が表示されます" * 60_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_takes_time_in_proportion_to_its_length(minilm: Tokenizer, name: str) -> None:
    started = time.perf_counter()
    chunks = chunk_document(HOSTILE[name], "Title", ChunkingRules(), minilm)
    assert time.perf_counter() - started < 15
    assert max((chunk.tokens for chunk in chunks), default=0) <= 256
    assert max((len(chunk.text) for chunk in chunks), default=0) <= 64 * 256


def test_rules_have_an_identity() -> None:
    variants = [
        ChunkingRules(),
        ChunkingRules("sliding_window"),
        ChunkingRules(max_tokens=128),
        ChunkingRules(overlap_tokens=16),
        ChunkingRules(preserve_code=False),
        ChunkingRules(join_sections=False),
    ]
    assert len({rules.fingerprint() for rules in variants}) == len(variants)
    assert ChunkingRules().fingerprint() == ChunkingRules("by_heading", 256, 32, True).fingerprint()


def test_rules_that_came_later_leave_the_identity_of_those_before_as_it_was() -> None:
    before = digest("chunking", CHUNK_VERSION, "by_heading", "256", "32", "True", "multilingual-e5-small")
    assert ChunkingRules().fingerprint() == before


def test_small_sections_stand_alone_where_they_are_not_joined_but_headings_never_do(minilm: Tokenizer) -> None:
    markdown = "# Words\n\n## graft\n\nA twig set on a tree.\n\n## spur\n\nA short twig that bears.\n"
    assert len(chunk_document(markdown, "Words", ChunkingRules(), minilm)) == 1
    apart = check_chunks(markdown, "Words", ChunkingRules(join_sections=False), minilm)
    assert [chunk.text.splitlines()[0] for chunk in apart] == ["# Words", "## spur"]


def test_targets_of_links_are_not_embedded_and_take_no_room(tokenizer: Tokenizer) -> None:
    links = " ".join(
        f"[word{n}](https://site.example/a/rather/long/path/{n}/index.html#section-{n})" for n in range(60)
    )
    plain = " ".join(f"word{n}" for n in range(60))
    rules = ChunkingRules(max_tokens=256, overlap_tokens=0)
    linked, unlinked = chunk_document(links, "T", rules, tokenizer), chunk_document(plain, "T", rules, tokenizer)
    assert len(linked) == len(unlinked)
    assert "site.example" not in embedding_text("T", (), linked[0].text)
    assert linked[0].text.startswith("[word0](https://site.example/")


def test_an_index_call_in_code_is_no_link() -> None:
    assert embedding_text("", (), "```\nhandlers[name](event)\n```") == "```\nhandlers[name](event)\n```"


@pytest.mark.parametrize("preserve_code", [True, False])
def test_each_chunk_of_a_long_table_knows_the_columns(tokenizer: Tokenizer, preserve_code: bool) -> None:
    rows = "".join(f"| RX-{n:05d} | {n % 97}.{n % 10} | {n % 31} weeks |\n" for n in range(200))
    markdown = f"# Parts\n\n| Article | Unit price in euro | Delivery |\n| --- | --- | --- |\n{rows}\n{SENTENCES * 5}\n"
    first, second, *_, last = check_chunks(markdown, "List", ChunkingRules(preserve_code=preserve_code), tokenizer)
    assert first.headings == ("Parts",)
    assert second.headings == ("Parts", "Article | Unit price in euro | Delivery")
    assert "Unit price in euro" in embedding_text("List", second.headings, second.text)
    assert not last.text.startswith("|")
    assert last.headings == ("Parts",)
