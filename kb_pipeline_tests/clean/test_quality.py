"""Floors for what is kept of real reference documentation; lowering one needs a reason in the commit."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kb_pipeline.clean.html.document import read_html
from kb_pipeline.clean.rules import CleaningRules
from kb_pipeline.model import Document
from kb_pipeline_tests.clean.pages import raw

POSTGRESQL = Path("/usr/share/doc/postgresql-doc-15/html")
PYTHON = Path("/usr/share/doc/python3.11/html")
HANDBOOK = Path("/usr/share/doc/debian-handbook/html")
NAVIGATION = "descendant::*[@class='navheader' or @class='navfooter' or @class='headerlink']"
WORD = re.compile(r"\w+")


def sample(folder: Path, pattern: str, step: int) -> list[Path]:
    files = sorted(folder.glob(pattern))[::step]
    if not files:
        pytest.skip(f"the Debian package that installs {folder} is absent")
    return files


def content(path: Path, region: str) -> Any:
    """Return the part of a page that its document must contain, found without the code under test."""
    from lxml.html import HTMLParser, document_fromstring

    tree = document_fromstring(path.read_bytes(), parser=HTMLParser(encoding="utf-8", huge_tree=True))
    found = tree.xpath(region)[0]
    for element in found.xpath(f"{NAVIGATION} | descendant::script"):
        element.drop_tree()
    return found


def recall(wanted: Any, markdown: str) -> float:
    """Return the share of a page's words that are in the Markdown; markup inside a word may or may not divide it."""
    found = Counter(WORD.findall(markdown))
    return max(_share(wanted.text_content(), found), _share(" ".join(wanted.itertext()), found))


def _share(text: str, found: Counter[str]) -> float:
    expected = Counter(WORD.findall(text))
    return sum(min(count, found[word]) for word, count in expected.items()) / max(expected.total(), 1)


def read(path: Path) -> Document | None:
    result = read_html(raw(path.read_bytes(), url=f"https://docs.test/{path.name}"), CleaningRules())
    return result if isinstance(result, Document) else None


@pytest.mark.parametrize(
    ("folder", "pattern", "region", "step"),
    [(POSTGRESQL, "*.html", "//body", 15), (PYTHON, "**/*.html", "//*[@role='main']", 20)],
    ids=["DocBook", "Sphinx"],
)
def test_reference_documentation_is_kept(folder: Path, pattern: str, region: str, step: int) -> None:
    recalls = []
    files = sample(folder, pattern, step)
    for path in files:
        document = read(path)
        if document is None:
            continue
        wanted = content(path, region)
        recalls.append(recall(wanted, document.markdown))
        for code in ("".join(pre.itertext()).removeprefix("\n") for pre in wanted.iter("pre")):
            assert code.strip() in document.markdown, path
        assert not re.search(r"(?m)^\W*(Prev|Up|Next)\W*$|\[(Prev|Up|Next)\]|¶", document.markdown), path
        headings = re.findall(r"(?m)^(#{1,6}) ", re.sub(r"(?ms)^(`{3,}).*?^\1`*$", "", document.markdown))
        assert [len(marks) for marks in headings] == _levels(wanted), path
        assert document.language in ("en", "und")
    assert len(recalls) >= 0.98 * len(files)
    assert statistics.median(recalls) >= 0.99
    assert min(recalls) >= 0.85


def _levels(wanted: Any) -> list[int]:
    """Return the levels of a page's headings, without the titles of notes and warnings."""
    boxes = {"note", "tip", "warning", "caution", "important", "admonition"}
    headings = (head for head in wanted.iter("h1", "h2", "h3", "h4", "h5", "h6") if head.text_content().strip())
    return [int(head.tag[1]) for head in headings if boxes.isdisjoint((head.getparent().get("class") or "").split())]


def test_language_of_translated_manuals_is_detected_and_never_wrong() -> None:
    files = sample(HANDBOOK, "*/sect.apt-get.html", 1)
    told = {path.parent.name: document.language for path in files if (document := read(path))}
    translated = {"de-DE": "de", "fr-FR": "fr", "es-ES": "es", "ja-JP": "ja", "ru-RU": "ru", "it-IT": "it"}
    # Where English passages are left between translated ones, no language is the right answer.
    assert all(told[name] in (code, "und") for name, code in translated.items() if name in told)
    assert {told["en-US"], told["de-DE"], told["es-ES"]} == {"en", "de", "es"}
