"""Pages of news, blogs, shops and clubs with sentences that belong to their text, and others that must not be in it.

They are trafilatura's own test pages: an old source distribution of it has them, with tests that name the sentences.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.markdown_parts import words_of

PACKAGE = "trafilatura==0.4.1"
_LOADER, _PAGES = "load_mock_page", "MOCK_PAGES"


@dataclass
class PhrasePage:
    """A page with what should and what should not be read on it."""

    name: str
    url: str
    body: bytes
    wanted: list[str] = field(default_factory=list)
    unwanted: list[str] = field(default_factory=list)


@dataclass
class PhraseCounts:
    """How many sentences were where they should be."""

    kept: int = 0
    lost: int = 0
    left_in: int = 0
    left_out: int = 0

    def shares(self) -> dict[str, float]:
        """Return the F1 of the sentences kept, with its precision and recall."""
        precision, recall = self.kept / max(self.kept + self.left_in, 1), self.kept / max(self.kept + self.lost, 1)
        return {"f1": 2 * precision * recall / max(precision + recall, 1e-9), "precision": precision, "recall": recall}

    def add(self, page: PhrasePage, text: str) -> None:
        """Count a page's sentences."""
        wrong = lost_and_left_in(page, text)
        self.lost += len(wrong[0])
        self.kept += len(page.wanted) - len(wrong[0])
        self.left_in += len(wrong[1])
        self.left_out += len(page.unwanted) - len(wrong[1])


def lost_and_left_in(page: PhrasePage, text: str) -> tuple[list[str], list[str]]:
    """Return the wanted sentences that a text lacks, and the unwanted ones that it has, whatever their markup."""
    squeezed = "".join(words_of(text))
    found = {phrase: "".join(words_of(phrase)) in squeezed for phrase in (*page.wanted, *page.unwanted)}
    return [text for text in page.wanted if not found[text]], [text for text in page.unwanted if found[text]]


def phrase_pages(folder: Path) -> list[PhrasePage]:
    """Return the pages of an unpacked source distribution, with the sentences that its tests name."""
    pages = []
    for script in sorted(folder.rglob("tests/unit_tests.py")):
        tree = ast.parse(script.read_text("utf-8"))
        files = next(_dict(node) for node in ast.walk(tree) if _is_named(node, _PAGES))
        known = {url: script.parent / "cache" / name for url, name in files.items()}
        pages += [page for page in _asserted(tree, known) if page.wanted and "//" in page.url.removesuffix("tags")]
    return pages


def _asserted(tree: ast.Module, files: dict[str, Path]) -> Iterator[PhrasePage]:
    """Yield a page for every `result = load_mock_page(URL)`, with what is asserted until the next one."""
    page: PhrasePage | None = None
    for node in _in_order(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == _LOADER:
            if page is not None:
                yield page
            url = ast.literal_eval(node.args[0])
            path = files.get(url)
            page = PhrasePage(path.stem, url, path.read_bytes()) if path is not None and path.is_file() else None
        elif page is not None and isinstance(node, ast.Compare) and isinstance(node.left, ast.Constant):
            kind = page.wanted if isinstance(node.ops[0], ast.In) else page.unwanted
            kind += [node.left.value] if isinstance(node.left.value, str) and words_of(node.left.value) else []
    if page is not None:
        yield page


def _in_order(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _in_order(child)


def _is_named(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name


def _dict(node: ast.AST) -> dict[str, str]:
    assert isinstance(node, ast.Assign)
    found: dict[str, str] = ast.literal_eval(node.value)
    return found
