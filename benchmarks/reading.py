"""Measures what the clean stage keeps of real pages: manuals of many generators, and articles.

Run it with: python -m benchmarks.reading [--manuals] [--articles] [--only NAME ...] [--show NAME ...] [--check]

Manuals are documentation packages of Debian, downloaded by apt into --folder and unpacked without being installed. Each
generator's XPaths tell what a person reads on its pages and what is navigation; the Markdown of `read_html` is aligned
with both, word by word, once what the sample's pages repeat is cut as the stage does. Articles are test pages of other
extractors with the text they expect; the same figures are given for trafilatura alone. --show prints what is lost and
what is left in, page by page; --check returns 1 below a floor. Other pages have sentences that must, and must not, be
read.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from statistics import fmean

from benchmarks.articles import Article, Score, articles, fetch_packages, scored
from benchmarks.manuals import GENERATORS, Generator, sample, unpacked
from benchmarks.markdown_parts import Passage, compared, missing_code, missing_headings, parts_of, words_of
from benchmarks.page_truth import Truth, truth_of
from benchmarks.phrases import PhraseCounts, PhrasePage, lost_and_left_in, phrase_pages
from kb_pipeline.clean.blocks import cut
from kb_pipeline.clean.html.document import read_html, warm_up
from kb_pipeline.clean.rules import CleaningRules
from kb_pipeline.clean.site_template import find_templates
from kb_pipeline.model import Document, RawDocument, Rejected

MAX_LOST, MIN_WHOLE, MAX_LEFT_IN = 0.005, 0.995, 0.02
"""The floors: shares of words, of headings and of blocks of code. That of articles is what trafilatura alone gives."""
_NO_PAGES = ("redirect", "noindex")
"""Reasons of pages that only lead to others, or want to be in no index."""
BEFORE, MAX_SLOWER = 1.7, 1.3
"""What cleaning took in trafilatura's time before it kept whole regions (CPU time), and what it may take of that."""


@dataclass
class Page:
    """What is amiss with one page."""

    path: str
    lost: list[Passage] = field(default_factory=list)
    left_in: list[Passage] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)
    """Those that are not whole."""
    code: list[str] = field(default_factory=list)
    """The blocks that are not whole to the character."""
    why_none: str = ""


@dataclass
class Manual:
    """How one generator's pages fared, in counts."""

    name: str
    pages: int = 0
    words: int = 0
    lost: int = 0
    headings: int = 0
    headings_broken: int = 0
    code: int = 0
    code_broken: int = 0
    markdown_words: int = 0
    left_in: int = 0
    none: Counter[str] = field(default_factory=Counter)
    """Pages that gave no document, by reason."""
    megabytes: float = 0.0
    seconds: float = 0.0
    alone_s: float = 0.0
    """What trafilatura takes for the same pages."""

    def shares(self) -> dict[str, float]:
        """Return the shares that have floors."""
        return {
            "lost": self.lost / max(self.words, 1),
            "headings": 1 - self.headings_broken / max(self.headings, 1),
            "code": 1 - self.code_broken / max(self.code, 1),
            "left_in": self.left_in / max(self.markdown_words, 1),
        }

    def is_below(self) -> list[str]:
        """Return what is below its floor."""
        shares = self.shares()
        floors = {
            "lost": shares["lost"] >= MAX_LOST, "left_in": shares["left_in"] >= MAX_LEFT_IN,
            "headings": shares["headings"] < MIN_WHOLE, "code": shares["code"] < MIN_WHOLE,
        }  # fmt: skip
        return [name for name, is_low in floors.items() if is_low]


def measure(generator: Generator, folder: Path, count: int) -> tuple[Manual, list[Page]]:
    """Clean a sample of a generator's pages; return the counts, and what is amiss with which page."""
    manual, pages, documents = Manual(generator.name), list[Page](), list[tuple[Page, Truth, Document]]()
    for path in sample(generator, folder, count):
        body = path.read_bytes()
        truth = truth_of(body, generator)
        if truth is None or truth.is_listing or not words_of(truth.region):
            continue  # a redirect, a page of frames, or a list of contents
        page = Page(path.relative_to(folder).as_posix())
        began = time.process_time()
        document = read_html(raw_of(_address(page), body), CleaningRules())
        if isinstance(document, Rejected) and document.reason in _NO_PAGES:
            continue
        manual.seconds += time.process_time() - began
        manual.megabytes += len(body) / 1e6
        manual.alone_s += _alone(body)[1]
        manual.pages += 1
        manual.words += len(words_of(truth.region))
        manual.headings += len(truth.headings)
        manual.code += len(truth.code)
        pages.append(page)
        if isinstance(document, Rejected):
            page.why_none = f"{document.reason}: {document.message}"
            manual.none[document.reason] += 1
            manual.lost += len(words_of(truth.region))
        else:
            documents.append((page, truth, document))
    cuts = find_templates((page.path, "site", _address(page), document.edges) for page, _, document in documents)
    for page, truth, document in documents:
        _compare(manual, page, truth, cut(document.markdown, *cuts[page.path])[1])
    return manual, pages


def _compare(manual: Manual, page: Page, truth: Truth, markdown: str) -> None:
    parts = parts_of(markdown)
    page.lost, page.left_in = compared(truth, parts.text)
    page.headings = missing_headings(truth.headings, parts.headings)
    page.code = [block.spellings[0] for block in missing_code(truth.code, parts)]
    manual.lost += sum(len(passage.words) for passage in page.lost)
    manual.left_in += sum(len(passage.words) for passage in page.left_in)
    manual.markdown_words += len(words_of(parts.text))
    manual.headings_broken += len(page.headings)
    manual.code_broken += len(page.code)


def _address(page: Page) -> str:
    return f"https://manual.example/{page.path}"


def raw_of(url: str, body: bytes) -> RawDocument:
    """Return a page as the fetch stage would hand it over."""
    return RawDocument("site", url, url, body, sha256(body).hexdigest(), "text/html", datetime.now(UTC))


def _alone(body: bytes) -> tuple[str, float]:
    """Return the text that trafilatura extracts by itself, and the seconds it takes."""
    from trafilatura import extract

    began = time.process_time()
    text = extract(body, include_comments=False, include_tables=True) or ""
    return text, time.process_time() - began


@dataclass
class ArticleResult:
    """How one article fared."""

    name: str
    ours: Score
    alone: Score
    lost: list[Passage]
    left_in: list[Passage]
    why_none: str = ""


def measure_article(article: Article) -> ArticleResult:
    """Clean one article and compare it with the text expected."""
    from benchmarks.markdown_parts import differences

    document = read_html(raw_of(f"https://news.example/{article.name}.html", article.body), CleaningRules())
    text = parts_of(document.markdown).text if isinstance(document, Document) else ""
    lost, left_in = differences(words_of(article.expected), words_of(text))
    why_none = "" if isinstance(document, Document) else document.reason
    alone = scored(article.expected, _alone(article.body)[0])
    return ArticleResult(article.name, scored(article.expected, text), alone, lost, left_in, why_none)


def mean(scores: list[Score]) -> dict[str, float]:
    """Return mean precision and recall over pages, and the F1 of the two, as that benchmark counts."""
    total = Score(fmean(score.precision for score in scores), fmean(score.recall for score in scores))
    return {"f1": total.f1, "precision": total.precision, "recall": total.recall}


_HEAD = (
    f"{'generator':16} {'pages':>5} {'none':>4} {'words':>7} {'lost %':>7} {'headings %':>10} {'code %':>7} "
    f"{'left in %':>9} {'s/MB':>6} {'x alone':>7}"
)


def row(manual: Manual) -> str:
    """Return a manual's line of the table."""
    shares = {name: 100 * share for name, share in manual.shares().items()}
    return (
        f"{manual.name:16} {manual.pages:5} {manual.none.total():4} {manual.words:7} {shares['lost']:7.2f} "
        f"{shares['headings']:10.2f} {shares['code']:7.2f} {shares['left_in']:9.2f} "
        f"{manual.seconds / max(manual.megabytes, 1e-9):6.2f} {manual.seconds / max(manual.alone_s, 1e-9):7.2f}"
        f"  {' '.join(f'!{name}' for name in manual.is_below())}"
    )


def shown(page: Page, limit: int = 25) -> list[str]:
    """Return lines that say what is amiss with a page, the longest passages first."""
    lines = [f"  NO DOCUMENT {page.why_none}"] if page.why_none else []
    for label, passages in (("LOST", page.lost), ("LEFT IN", page.left_in)):
        longest = sorted(passages, key=lambda passage: -len(passage.words))
        lines += [f"  {label} {len(passage.words)}: {_short(str(passage))}" for passage in longest[:limit]]
    lines += [f"  HEADING {heading}" for heading in page.headings[:limit]]
    lines += [f"  CODE {_short(json.dumps(code, ensure_ascii=False))}" for code in page.code[:limit]]
    return [f"{page.path}", *lines] if lines else []


def _short(text: str, most: int = 400) -> str:
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


def _run_manuals(given: argparse.Namespace) -> tuple[list[Manual], bool]:
    manuals, shows = [], []
    if not given.json:
        print(_HEAD)
    for generator in GENERATORS:
        if given.only and generator.name not in given.only:
            continue
        manual, pages = measure(generator, unpacked(generator.package, given.folder), given.pages)
        manuals.append(manual)
        if not given.json:
            print(row(manual), flush=True)
        if generator.name in given.show or "all" in given.show:
            worst = sorted(pages, key=lambda page: -sum(len(part.words) for part in (*page.lost, *page.left_in)))
            shows += [f"== {generator.name}", *(line for page in worst for line in shown(page))]
    slower = slowness(manuals)
    if not given.json:
        print(
            f"all of them take {slower:.2f} times as long as trafilatura alone, {slower / BEFORE:.2f} times as before"
        )
        print("\n".join(shows))
    is_slow = not given.only and slower > MAX_SLOWER * BEFORE
    return manuals, is_slow or any(manual.is_below() or manual.none for manual in manuals)


def slowness(manuals: list[Manual]) -> float:
    """Return how many times as long as trafilatura alone cleaning took for all pages."""
    return sum(manual.seconds for manual in manuals) / max(sum(manual.alone_s for manual in manuals), 1e-9)


def measure_phrases(pages: list[PhrasePage]) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Clean pages with known sentences; return the shares kept and left in, and lines that tell what is amiss."""
    ours, alone, lines = PhraseCounts(), PhraseCounts(), list[str]()
    for page in pages:
        document = read_html(raw_of(page.url, page.body), CleaningRules())
        text = parts_of(document.markdown).text if isinstance(document, Document) else ""
        ours.add(page, text)
        alone.add(page, _alone(page.body)[0])
        lost, left_in = lost_and_left_in(page, text)
        amiss = [*(f"  LOST {phrase}" for phrase in lost), *(f"  LEFT IN {phrase}" for phrase in left_in)]
        none = [f"  NO DOCUMENT {document.reason}"] if isinstance(document, Rejected) else []
        lines += [f"{page.name} {page.url}", *none, *amiss] if amiss else []
    return {"phrases": ours.shares(), "phrases_alone": alone.shares()}, lines


def _run_articles(given: argparse.Namespace) -> tuple[dict[str, dict[str, float]], bool]:
    folder = given.folder / "articles"
    fetch_packages(folder)
    results = [measure_article(article) for article in articles(folder)]
    figures = {"ours": mean([result.ours for result in results]), "alone": mean([result.alone for result in results])}
    pages = phrase_pages(folder)
    phrases, amiss = measure_phrases(pages)
    figures |= phrases
    if not given.json:
        for name, figure in figures.items():
            told = ", ".join(f"{key} {value:.3f}" for key, value in figure.items())
            what = f"{len(pages)} pages with phrases" if name.startswith("phrases") else f"{len(results)} articles"
            print(f"{what}, {'trafilatura alone' if name.endswith('alone') else 'clean stage'}: {told}")
    if "articles" in given.show or "all" in given.show:
        for result in sorted(results, key=lambda result: result.ours.f1)[: given.worst]:
            page = Page(result.name, result.lost, result.left_in, why_none=result.why_none)
            print(f"F1 {result.ours.f1:.3f} (P {result.ours.precision:.3f} R {result.ours.recall:.3f}; "
                  f"alone {result.alone.f1:.3f})", *shown(page, 12), sep="\n")  # fmt: skip
    if "phrases" in given.show or "all" in given.show:
        print("\n".join(amiss))
    return figures, figures["ours"]["f1"] < figures["alone"]["f1"]


def main() -> int:
    """Print the figures; return 1 if asked to check and one is below its floor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manuals", action="store_true", help="only the manuals")
    parser.add_argument("--articles", action="store_true", help="only the articles")
    parser.add_argument("--only", nargs="+", default=[], help="generators to measure", metavar="NAME")
    parser.add_argument(
        "--show", nargs="+", default=[], help="generators to show, 'articles', 'phrases' or 'all'", metavar="NAME"
    )
    parser.add_argument("--worst", type=int, default=15, help="how many articles to show")
    parser.add_argument("--pages", type=int, default=60, help="pages of a generator at most")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "kb-manuals")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true", help="return 1 below a floor")
    given = parser.parse_args()
    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
    warm_up()
    both = given.manuals == given.articles
    manuals, is_low = _run_manuals(given) if both or given.manuals else ([], False)
    figures, is_poor = _run_articles(given) if both or given.articles else ({}, False)
    if given.json:
        told = [{**asdict(manual), **manual.shares(), "below": manual.is_below()} for manual in manuals]
        print(json.dumps({"manuals": told, "articles": figures}, indent=2))
    return int(given.check and (is_low or is_poor))


if __name__ == "__main__":
    sys.exit(main())
