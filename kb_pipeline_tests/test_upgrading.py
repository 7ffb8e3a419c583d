"""docs/upgrading.md lists what leans on private parts of libraries, and the tests that tell."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import kb_pipeline

PACKAGE = Path(kb_pipeline.__file__).parent
TESTS = Path(__file__).parent
PAGE = (PACKAGE.parent / "docs/upgrading.md").read_text()


def listed() -> dict[str, set[str]]:
    """The tests below each library of the page."""
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    return {text.split("\n")[0]: set(re.findall(r"^- `(\S+)`$", text, re.MULTILINE)) for text in sections}


def marks(node: ast.AST) -> Iterator[str]:
    """The libraries of the `upgrade` marks anywhere in an expression."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "upgrade":
            yield from (str(argument.value) for argument in call.args if isinstance(argument, ast.Constant))


def marked() -> dict[str, set[str]]:
    """The modules and tests that carry the mark, by library."""
    found: dict[str, set[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        module = path.relative_to(TESTS).as_posix()
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign):
                for library in marks(node.value):
                    found.setdefault(library, set()).add(module)
            elif isinstance(node, ast.FunctionDef):
                for library in (name for decorator in node.decorator_list for name in marks(decorator)):
                    found.setdefault(library, set()).add(f"{module}::{node.name}")
    return found


def test_the_page_lists_the_tests_that_carry_the_mark() -> None:
    assert listed() == marked()


def test_the_page_names_every_module_that_imports_something_private() -> None:
    private = re.compile(
        r"^\s*(?:from|import) ((?:dagster|twisted|scrapy|lance|psycopg)\b[\w.]*\._[\w.]*)", re.MULTILINE
    )
    importers = {
        path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if private.search(path.read_text())
    }
    assert importers
    assert not {name for name in importers if f"`{name}`" not in PAGE}


def test_the_modules_on_the_page_exist() -> None:
    named = re.findall(r"`([\w/]+\.py)`", "\n".join(line for line in PAGE.split("\n") if line.startswith("| `")))
    assert len(named) > 10
    assert not [name for name in named if not (PACKAGE / name).is_file()]
