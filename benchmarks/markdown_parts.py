"""What a page's Markdown has of the page: the words lost or left in, the headings and blocks of code that are whole."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from benchmarks.page_truth import Code, Truth, normal_code

_MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
_SYNTAX = str.maketrans("", "", "*_`\\~\u00ad\u200b")
"""Marks that Markdown adds or takes, and what nobody sees; removed from both sides."""
_CHARACTER = "\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Scripts without blanks between words: Thai, Lao, Burmese, Japanese, Chinese."""
_WORD = re.compile(rf"[{_CHARACTER}]|[^\W{_CHARACTER}]+")
_TAG = re.compile(
    r"</?(?:a|b|br|code|dd|del|details|div|dl|dt|em|hr|i|img|ins|kbd|li|mark|ol|p|pre|rp|rt|ruby|s|span|strong|sub"
    r"|summary|sup|table|tbody|td|th|thead|tr|u|ul)\b[^>]*>|<!--.*?-->"
)
"""Markup; `<Foo>` is text that a page shows, whatever a renderer of Markdown makes of it."""
_HUNK = re.compile(r"^(\d+)(?:,(\d+))?([acd])(\d+)(?:,(\d+))?$", re.M)
_GRAM = 3
_CONTEXT = 6


@dataclass
class Parts:
    """The parts of a Markdown text."""

    text: str = ""
    headings: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)


def parts_of(markdown: str) -> Parts:
    """Return what a reader of the Markdown sees, without link targets."""
    parts, blocks, in_heading = Parts(), list[str](), False
    for token in _MARKDOWN.parse(markdown):
        if token.type in ("fence", "code_block"):
            parts.code.append(normal_code(token.content))
            blocks.append(token.content)
        elif token.type == "html_block":
            blocks.append(_TAG.sub(" ", token.content))
        elif token.type == "inline":
            blocks.append(_inline(token.children or ()))
            parts.headings += [blocks[-1]] * in_heading
        in_heading = token.type == "heading_open"
    parts.text = "\n".join(blocks)
    return parts


def _inline(tokens: Iterable[Token]) -> str:
    shown = []
    for token in tokens:
        is_markup = token.type in ("softbreak", "hardbreak") or (
            token.type == "html_inline" and _TAG.match(token.content)
        )
        shown.append(" " if is_markup else token.content)
    return "".join(shown)


def words_of(text: str) -> list[str]:
    """Return a text's words; of scripts without blanks every character."""
    return _WORD.findall(text.translate(_SYNTAX))


@dataclass
class Passage:
    """Some words that belong together, with those around them."""

    words: list[str]
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{' '.join(self.before)} [[{' '.join(self.words)}]] {' '.join(self.after)}".strip()


def compared(truth: Truth, text: str) -> tuple[list[Passage], list[Passage]]:
    """Return the passages of the page's prose that the text lacks, and those of its boilerplate that it has."""
    lost, extra = differences(words_of(truth.region), words_of(text))
    lost, extra = _without_moved(lost, extra)
    optional = _spaced(truth.optional)
    return lost, _of_boilerplate(
        [passage for passage in extra if _spaced(passage.words) not in optional], truth.boilerplate
    )


def _spaced(words: str | Sequence[str]) -> str:
    return f" {' '.join(words_of(words) if isinstance(words, str) else words)} "


def differences(first: Sequence[str], second: Sequence[str]) -> tuple[list[Passage], list[Passage]]:
    """Return the passages that only the first, and that only the second sequence has, in alignment."""
    only_first, only_second = list[Passage](), list[Passage]()
    for (start, end), (other_start, other_end) in _hunks(first, second):
        removed, added = first[start:end], second[other_start:other_end]
        if "".join(removed) == "".join(added):
            continue  # one side writes as two words what the other writes as one
        if removed and "".join(removed) not in "".join(added):
            only_first.append(_passage(first, start, end))
        if added and "".join(added) not in "".join(removed):
            only_second.append(_passage(second, other_start, other_end))
    return only_first, only_second


def _passage(words: Sequence[str], start: int, end: int) -> Passage:
    before, after = words[max(0, start - _CONTEXT) : start], words[end : end + _CONTEXT]
    return Passage(list(words[start:end]), list(before), list(after))


def _hunks(first: Sequence[str], second: Sequence[str]) -> Iterable[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield the ranges in which two sequences differ, as GNU diff aligns them, which stays fast on long ones."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("first", "second")]
        for path, words in zip(paths, (first, second), strict=True):
            path.write_text("".join(f"{word}\n" for word in words), "utf-8")
        found = subprocess.run(["diff", "--minimal", "--text", *paths], capture_output=True, check=False)
    for start, end, kind, other_start, other_end in _HUNK.findall(found.stdout.decode("utf-8", "replace")):
        removed = (int(start), int(start)) if kind == "a" else (int(start) - 1, int(end or start))
        added = (
            (int(other_start), int(other_start))
            if kind == "d"
            else (int(other_start) - 1, int(other_end or other_start))
        )
        yield removed, added


def _without_moved(lost: list[Passage], extra: list[Passage]) -> tuple[list[Passage], list[Passage]]:
    """Take from both what merely stands elsewhere, such as a footnote or a caption."""
    grams = Counter(gram for passage in extra for gram in _grams(passage.words))
    found: Counter[tuple[str, ...]] = Counter()
    still_lost = []
    for passage in lost:
        own = _grams(passage.words)
        present = [gram for gram in own if grams[gram] > found[gram]]
        found.update(present)
        if len(present) < len(own):
            still_lost.append(passage)
    still_extra = [passage for passage in extra if not all(found[gram] for gram in _grams(passage.words))]
    return still_lost, still_extra


def _grams(words: Sequence[str]) -> list[tuple[str, ...]]:
    """Return every run of three words, or the whole of what is shorter."""
    return [tuple(words[i : i + _GRAM]) for i in range(max(1, len(words) - _GRAM + 1))]


def _of_boilerplate(extra: list[Passage], boilerplate: str) -> list[Passage]:
    grams, joined = set(_grams(words_of(boilerplate))), _spaced(boilerplate)
    found = []
    for passage in extra:
        if all(word.isdigit() for word in passage.words):
            continue  # the number of a list's item, more likely
        short = len(passage.words) < _GRAM and _spaced(passage.words) in joined
        covered = set[int]()
        for start, gram in enumerate(_grams(passage.words)):
            if gram in grams:
                covered.update(range(start, start + len(gram)))
        if short or covered:
            kept = passage.words if short else [passage.words[i] for i in sorted(covered)]
            found.append(Passage(kept, passage.before, passage.after))
    return found


def missing_headings(headings: Iterable[tuple[str, ...]], found: Iterable[str]) -> list[str]:
    """Return the headings of which no heading of the Markdown equals any spelling, each counted once."""
    present = Counter("".join(words_of(heading)) for heading in found)
    missing = []
    for spellings in headings:
        keys = ["".join(words_of(spelling)) for spelling in spellings]
        key = next((key for key in keys if present[key] > 0), "")
        present[key] -= 1
        if any(keys) and not key:
            missing.append(spellings[0])
    return missing


def missing_code(blocks: Iterable[Code], parts: Parts) -> list[Code]:
    """Return the blocks of code that no fence equals to the character; in a table's cell, that stand in no cell."""
    present = Counter(parts.code)
    squeezed = "".join(parts.text.split())
    missing = []
    for block in blocks:
        spelling = next((spelling for spelling in block.spellings if present[spelling] > 0), None)
        if spelling is not None:
            present[spelling] -= 1
        elif not (block.is_in_cell and any("".join(spelling.split()) in squeezed for spelling in block.spellings)):
            missing.append(block)
    return missing
