"""Reads what a model writes, as it comes: sentences, and behind each the passages that it cites.

A model is asked to write a sentence a line, and behind it `[2: "words of passage 2"]` for each passage that it rests
on. What it writes instead is read as well as it can be: several sentences in a line, `[2]` and `[1, 2]` without words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kb_pipeline.answers.sentences import split_sentences

NO_ANSWER = "NO_ANSWER"
"""What a model is asked to write if the passages do not answer."""
_CITATIONS = re.compile(
    r"\[\s*(?P<number>\d{1,9})\s*[:：,]?\s*[\"“”„«](?P<quote>[^\n]{0,4000}?)[\"”“»]\s*\]|\[(?P<bare>\s*\d{1,9}(?:\s*[,;]\s*\d{1,9})*\s*)\]"
)
_PUNCTUATION = " .,;:!?。"
_REFUSAL = re.compile(
    r"\bNO_ANSWER\b|\b(?:I|we) (?:do not|don't|don’t|cannot|can't|can’t|could not|couldn't) (?:know|answer|find)\b"
    r"|\b(?:passages|context|documents|sources) (?:do|does) not (?:contain|say|mention|answer|provide)\b"
    r"|\bno (?:information|answer) (?:is|was|in|about|on)\b|\bich weiß (?:es )?nicht\b"
    r"|\bkeine (?:Informationen|Antwort)\b"
    r"|\bno lo sé\b|\bno (?:se menciona|hay información)\b|\bje ne sais pas\b|\baucune (?:information|réponse)\b"
    r"|不知道|无法回答|わかりません|分かりません",
    re.IGNORECASE,
)
"""How models say that they do not know, in some languages: a guess, beside the word that they are asked for."""


@dataclass(frozen=True, slots=True)
class Cites:
    """A passage that a sentence cites."""

    number: int
    quote: str | None
    """The words that it is said to rest on; None if only the number was given."""


@dataclass(frozen=True, slots=True)
class DraftSentence:
    """A sentence as the model wrote it."""

    text: str
    cites: tuple[Cites, ...]

    @property
    def refuses(self) -> bool:
        """Whether it says that the model does not know."""
        return bool(_REFUSAL.search(self.text))


class DraftReader:
    """Takes a model's text piece by piece, and gives the sentences that are complete."""

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, text: str) -> Iterator[DraftSentence]:
        """Yield the sentences that a piece of text completes: those of whole lines."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            yield from read_line(line)

    def end(self) -> Iterator[DraftSentence]:
        """Yield what the last line holds, once the model has said that it is done."""
        line, self._rest = self._rest, ""
        yield from read_line(line)


def read_line(line: str) -> Iterator[DraftSentence]:
    """Yield the sentences of a line, each with the citations behind it."""
    at, waiting = 0, ""
    cites: list[Cites] = []
    for found in _CITATIONS.finditer(line):
        text = line[at : found.start()]
        at = found.end()
        if cites and text.strip(_PUNCTUATION):
            yield from _sentences(waiting, cites)
            waiting, cites = "", []
            text = text.lstrip(_PUNCTUATION)  # of the sentence before: "so it is [1]."
        waiting += text
        cites += _cites(found)
    rest = line[at:]
    if cites and rest.strip(_PUNCTUATION):
        yield from _sentences(waiting, cites)
        yield from _sentences(rest.lstrip(_PUNCTUATION), [])
    else:
        yield from _sentences(waiting if cites else rest, cites)


def _cites(found: re.Match[str]) -> list[Cites]:
    if found["bare"] is not None:
        return [Cites(int(number), None) for number in re.findall(r"\d+", found["bare"])]
    return [Cites(int(found["number"]), found["quote"])]


def _sentences(text: str, cites: list[Cites]) -> Iterator[DraftSentence]:
    """Yield the sentences of a stretch of text: the citations behind it are those of its last sentence."""
    texts = [
        each.text for each in split_sentences(text.strip().lstrip("-*# "), "en") if any(map(str.isalnum, each.text))
    ]
    for each in texts[:-1]:
        yield DraftSentence(each, ())
    if texts:
        yield DraftSentence(texts[-1], tuple(cites))
    elif cites:
        yield DraftSentence("", tuple(cites))
