"""CONTRIBUTING.md says what the code says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import kb_pipeline

PACKAGE = Path(kb_pipeline.__file__).parent
CONTRIBUTING = (PACKAGE.parent / "CONTRIBUTING.md").read_text()


def test_every_room_is_in_the_table_with_the_first_line_of_its_docstring() -> None:
    rows = dict(re.findall(r"^\| `(kb_pipeline/[\w/]+)` \| (.+) \|$", CONTRIBUTING, re.MULTILINE))
    docstrings = {}
    for path in PACKAGE.rglob("*/__init__.py"):
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        docstrings[path.parent.relative_to(PACKAGE.parent).as_posix()] = docstring.split("\n")[0]
    assert rows == docstrings


def test_the_glossary_has_each_word_once() -> None:
    glossary = CONTRIBUTING.split("## Glossary")[1].split("\n## ")[0]
    words = [word.strip() for row in re.findall(r"^\| ([^|]+) \|", glossary, re.MULTILINE) for word in row.split(",")]
    assert len(words) > 50
    assert len(set(words)) == len(words)
