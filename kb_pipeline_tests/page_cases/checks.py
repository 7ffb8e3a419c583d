"""Compares a document with what a case says must hold of it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_ESCAPE = re.compile(r"\\([\\`*_<>#\[\]&|~+().!-])")


@dataclass(frozen=True)
class Chunk:
    """A chunk as it is stored: its text, its heading path, and the context line that is embedded with it."""

    text: str
    headings: tuple[str, ...]
    context: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a page: a document with its chunks, or a reason."""

    markdown: str | None = None
    title: str = ""
    language: str = ""
    chunks: Sequence[Chunk] = ()
    reason: str | None = None


def problems(checks: Sequence[Mapping[str, Any]], outcome: Outcome) -> list[str]:
    """Return what does not hold, one sentence each."""
    found = []
    for check in checks:
        ((kind, wanted),) = ((kind, value) for kind, value in check.items() if kind != "reason")
        if kind == "document":
            found += _is_no_document(outcome, check.get("reason"))
        elif outcome.markdown is None:
            return [f"no document: {outcome.reason}"]
        elif not _HOLDS[kind](wanted, outcome.markdown, outcome):
            found.append(f"{kind} {wanted!r}")
    return found


def _is_no_document(outcome: Outcome, reason: str | None) -> list[str]:
    if outcome.markdown is not None:
        return ["is a document, and should be none"]
    return [f"reason {outcome.reason}"] if reason and outcome.reason != reason else []


def normal(text: str) -> str:
    """Return the text without escapes, its white space collapsed."""
    return " ".join(_ESCAPE.sub(r"\1", text).split())


def plain(text: str) -> str:
    """Return the text without markup and link targets as well."""
    return " ".join(re.sub(r"[*`]|(?<=\])\([^()\s]*\)|[\[\]]", "", _ESCAPE.sub(r"\1", text)).split())


def _fences(markdown: str) -> list[str]:
    found: list[str] = []
    code: list[str] | None = None
    mark = ""
    for line in markdown.split("\n"):
        if code is None:
            if opening := re.match(r"[ >]*(?:[-*] |\d+\. )?(`{3,}|~{3,})", line):
                mark, code = opening[1], []
        elif line.strip(" >").startswith(mark) and not line.strip(" >").strip(mark[0]):
            found.append("\n".join(code))
            code = None
        else:
            code.append(line)
    return found


def _rows(markdown: str) -> list[list[str]]:
    lines = (line.strip() for line in markdown.split("\n"))
    tables = (line for line in lines if line.startswith("|") and line.endswith("|"))
    return [[plain(cell) for cell in re.split(r"(?<!\\)\|", line[1:-1])] for line in tables]


def _says(wanted: str, markdown: str, _: Outcome) -> bool:
    return normal(wanted) in normal(markdown) or plain(wanted) in plain(markdown)


def _in_order(wanted: Sequence[str], markdown: str, _: Outcome) -> bool:
    text, position = plain(markdown), -1
    for piece in wanted:
        position = text.find(plain(piece), position + 1)
        if position < 0:
            return False
    return True


def _is_code(wanted: str, markdown: str, _: Outcome) -> bool:
    return any(code.strip("\n") == wanted.strip("\n") for code in _fences(markdown))


def _in_one_block(wanted: Sequence[str], markdown: str, _: Outcome) -> bool:
    blocks = (plain(block) for block in re.split(r"\n\n+|\n(?=\|)", markdown))
    return any(all(plain(piece) in block for piece in wanted) for block in blocks)


def _has_heading(wanted: str, markdown: str, _: Outcome) -> bool:
    return re.search(rf"(?m)^#{{1,6}} {re.escape(wanted)}\s*$", _ESCAPE.sub(r"\1", markdown)) is not None


def _in_one_chunk(wanted: Sequence[str], _: str, outcome: Outcome) -> bool:
    return any(all(normal(piece) in normal(chunk.text) for piece in wanted) for chunk in outcome.chunks)


def _in_chunk_below(wanted: tuple[str, Sequence[str]], _: str, outcome: Outcome) -> bool:
    text, path = normal(wanted[0]), tuple(wanted[1])
    return any(text in normal(chunk.text) and chunk.headings[: len(path)] == path for chunk in outcome.chunks)


def _in_each_chunk(wanted: tuple[str, str], _: str, outcome: Outcome) -> bool:
    """Return whether each chunk that matches the pattern holds the text, in itself, its headings or its context."""
    chunks = [chunk for chunk in outcome.chunks if re.search(wanted[0], chunk.text)]
    return all(wanted[1] in " ".join([chunk.text, *chunk.headings, chunk.context]) for chunk in chunks)


def _are_whole(_: object, __: str, outcome: Outcome) -> bool:
    return not any(_is_inside_character(chunk.text[:1]) for chunk in outcome.chunks)


def _is_inside_character(first: str) -> bool:
    if not first:
        return False
    return bool(unicodedata.combining(first)) or first in "\u200d\ufe0f" or 0x1F3FB <= ord(first) <= 0x1F3FF


_HOLDS: dict[str, Callable[[Any, str, Outcome], bool]] = {
    "has": lambda wanted, markdown, _: wanted in markdown,
    "says": _says,
    "hasnt": lambda wanted, markdown, _: plain(wanted) not in plain(markdown),
    "re": lambda wanted, markdown, _: re.search(wanted, markdown, re.MULTILINE) is not None,
    "nore": lambda wanted, markdown, _: re.search(wanted, markdown, re.MULTILINE) is None,
    "once": lambda wanted, markdown, _: plain(markdown).count(plain(wanted)) == 1,
    "order": _in_order,
    "code": _is_code,
    "row": lambda wanted, markdown, _: [plain(cell) for cell in wanted] in _rows(markdown),
    "same_block": _in_one_block,
    "heading": _has_heading,
    "title": lambda wanted, _, outcome: outcome.title == wanted,
    "language": lambda wanted, _, outcome: outcome.language == wanted,
    "chunk_with": _in_one_chunk,
    "chunk_path": _in_chunk_below,
    "chunk_each": _in_each_chunk,
    "chunks_whole": _are_whole,
}
