"""Measures extracted answers on XQuAD: whether the right sentence is found, and what cannot be answered refused.

A KB of each language is built from XQuAD's passages and asked all of its questions, twice: as it is, and without the
passage that holds the answer. A sentence is right if it holds the answer's text. A threshold of the score is set on
every other question so that it refuses four of five of those without their passage, and judged on the rest; so is the
threshold that the version was published with. Every citation is compared with the stored bytes.

XQuAD (github.com/google-deepmind/xquad, CC BY-SA 4.0) does not come with this project: passages.jsonl.gz (_id, lang,
title, text) and questions.jsonl.gz (_id, lang, text, answer, passage) are read from a folder.

Run it with: python -m benchmarks.answers --data FOLDER [--languages en de] [--questions 1190] [--json]
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import kb_pipeline
from kb_pipeline.answers.rank import choose_candidates
from kb_pipeline.installation import Installation, Kb

FLOORS = {
    "en": {"in_best_three": 0.91, "auc": 0.94, "refused": 0.78, "lost": 0.10},
    "de": {"in_best_three": 0.85, "auc": 0.91, "refused": 0.78, "lost": 0.15},
}
"""The least of each, except of the share of answerable questions that are lost: the most."""
CEILING_MS = 50.0
"""The most milliseconds that half of all answers may take."""
_PASSAGES, _DEPTH = 5, 10


@dataclass(frozen=True)
class Asked:
    """What became of one question."""

    rank: int | None
    """Of the right sentence among those of the answer, from 0."""
    score: float
    score_without: float
    """The best score where the passage that holds the answer is left out."""
    seconds: float
    citations: int
    verified: int


def measure(data: Path, languages: Sequence[str], limit: int, folder: Path) -> dict[str, dict[str, float]]:
    """Return the figures of each language."""
    passages, questions = (_read(data / f"{name}.jsonl.gz") for name in ("passages", "questions"))
    figures = {}
    for language in languages:
        root = folder / language
        root.mkdir()
        for each in passages:
            if each["lang"] == language:
                name = each["_id"].split(":")[-1]
                (root / f"{name}.md").write_text(f"# {each['title']}\n\n{each['text']}\n", "utf-8")
        with kb_pipeline.open(folder / "home") as home:
            kb = _build(home, language, root)
            chosen = [each for each in questions if each["lang"] == language][:limit]
            asked = [_ask(home, kb, each) for each in chosen]
            threshold = kb.versions()[0].scores["answer_threshold"]
        figures[language] = _figures(asked, threshold)
    return figures


def _read(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _build(home: Installation, language: str, root: Path) -> Kb:
    source = {"name": "passages", "type": "files", "root": str(root), "paths": ["*.md"]}
    home.apply_text(json.dumps({"tenant": "bench", "kb": language, "sources": [source]}))  # JSON is YAML
    kb = home.kb(f"bench/{language}")
    result = kb.refresh()
    assert result.status == "ready", result
    return kb


def _ask(home: Installation, kb: Kb, question: dict[str, Any]) -> Asked:
    started = time.perf_counter()
    answer = kb.answer(question["text"], k=_PASSAGES)
    seconds = time.perf_counter() - started
    ranked = _best_sentences(home, kb, question["text"], None)
    right = question["answer"].casefold()
    rank = next((n for n, (text, _) in enumerate(ranked) if right in text.casefold()), None)
    without = _best_sentences(home, kb, question["text"], question["passage"])
    verified = sum(
        kb.document(each.key, as_of=each.version).markdown[each.start : each.end] == each.quote
        for each in answer.citations
    )
    return Asked(rank, answer.score, without[0][1] if without else 0.0, seconds, len(answer.citations), verified)


def _best_sentences(home: Installation, kb: Kb, question: str, left_out: str | None) -> list[tuple[str, float]]:
    """Return the three best sentences and their scores, also below the threshold, as if a document were not there."""
    hits = [hit for hit in kb.search(question, _DEPTH) if left_out is None or left_out not in hit.key][:_PASSAGES]
    candidates = choose_candidates(question, hits)
    if not candidates.sentences:
        return []
    readers = home._readers
    model = readers.open(kb.key).manifest.model
    vectors = readers.embed_sentences(kb.key.tenant, model, candidates.texts)
    ranked = candidates.ranked(readers.embed_query(model, question), vectors)
    return [(each.sentence.text, each.score) for each in ranked[:3]]


def _figures(asked: Sequence[Asked], threshold: float) -> dict[str, float]:
    known, without = np.array([each.score for each in asked]), np.array([each.score_without for each in asked])
    halved = float(np.quantile(without[::2], 0.8))
    figures = {
        "questions": len(asked),
        "best": np.mean([each.rank == 0 for each in asked]),
        "in_best_three": np.mean([each.rank is not None for each in asked]),
        "auc": _auc(known, without),
        "refused": np.mean(without[1::2] < halved),
        "lost": np.mean(known[1::2] < halved),
        "published_threshold": threshold,
        "refused_as_published": np.mean(without < threshold),
        "lost_as_published": np.mean(known < threshold),
        "citations": sum(each.citations for each in asked),
        "citations_not_verified": sum(each.citations - each.verified for each in asked),
        "p50_ms": 1000 * statistics.median(each.seconds for each in asked),
        "p95_ms": 1000 * float(np.quantile([each.seconds for each in asked], 0.95)),
    }
    return {name: round(float(value), 4) for name, value in figures.items()}


def _auc(higher: np.ndarray, lower: np.ndarray) -> float:
    """Return the chance that one of the first scores above one of the second; ties count half."""
    ordered = np.sort(lower)
    below = np.searchsorted(ordered, higher, "left") + np.searchsorted(ordered, higher, "right")
    return float(below.mean() / (2 * len(lower)))


def _missed(language: str, figures: dict[str, float]) -> list[str]:
    floors = FLOORS.get(language, {})
    missed = [name for name, bar in floors.items() if (figures[name] > bar) == (name == "lost")]
    return missed + ["citations_not_verified"] * (figures["citations_not_verified"] > 0)


def main() -> int:
    """Print the figures; return 1 when a floor is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with XQuAD's passages and questions")
    parser.add_argument("--languages", nargs="+", default=["en", "de"])
    parser.add_argument("--questions", type=int, default=1190, help="of each language")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options.data, options.languages, options.questions, Path(folder))
    if options.json:
        print(json.dumps(figures))
    else:
        for language, found in figures.items():
            print("\n".join([language, *(f"  {name:24}{value}" for name, value in found.items())]))
    missed = {language: names for language, found in figures.items() if (names := _missed(language, found))}
    if missed:
        print(f"missed: {missed}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
