"""Takes the front matter of a Markdown file apart: YAML, TOML or JSON before the text, as site generators read it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

# One of three marks on the first line, and the same mark (or YAML's "...") on a line of its own after at most 64 kB.
_FENCED = re.compile(
    r"\s{0,100}?(?P<mark>---|\+\+\+|;;;)[ \t]*\n(?P<fields>.{0,65536}?)^(?:(?P=mark)|\.\.\.)[ \t]*(?:\n|\Z)",
    re.S | re.M,
)
_BRACED = re.compile(r"\{[ \t]*\n(?P<fields>.{0,65536}?)^\}[ \t]*(?:\n|\Z)", re.S | re.M)
_MAX_VALUE_CHARS = 1_000


def split_front_matter(text: str) -> tuple[dict[str, str], str]:
    """Return the fields of the front matter that are plain values, by name in lower case, and the text after it.

    What looks like front matter and is no mapping, such as a section between two rules, stays text.
    """
    if match := _FENCED.match(text):
        found = _fields(_READERS[match["mark"]], match["fields"])
    elif match := _BRACED.match(text):
        found = _fields(json.loads, match[0])
    else:
        return {}, text
    return ({}, text) if found is None else (found, text[match.end() :])


def _yaml(text: str) -> object:
    import yaml

    return yaml.safe_load(text)


def _fields(read: Callable[[str], object], text: str) -> dict[str, str] | None:
    try:
        found = read(text)
    except Exception:  # noqa: BLE001 - three parsers, each with errors of its own, and endless recursion
        return _lines(text)
    if found is None:
        return {}
    return _plain(found) if isinstance(found, Mapping) else None


def _plain(found: Mapping[Any, Any]) -> dict[str, str]:
    """Return the values that are text, numbers or dates; of those in lists and mappings none counts."""
    plain = ((str(name).lower(), value) for name, value in found.items() if isinstance(value, str | int | float | date))
    return {name: str(value)[:_MAX_VALUE_CHARS] for name, value in plain if not isinstance(value, bool)}


def _lines(text: str) -> dict[str, str] | None:
    """Return what is readable of fields with a mistake, such as a colon within a title; None if most lines are text."""
    lines = [line for line in text.split("\n") if line.strip() and not line.startswith((" ", "\t", "#", "-"))]
    pairs = [match for line in lines if (match := re.match(r"([\w-]{1,50})\s*[:=]\s*(.*)", line))]
    if not pairs or len(pairs) * 2 < len(lines):
        return None
    return {pair[1].lower(): pair[2].strip().strip("\"'")[:_MAX_VALUE_CHARS] for pair in pairs}


_READERS: dict[str, Callable[[str], object]] = {"---": _yaml, "+++": tomllib.loads, ";;;": json.loads}
