"""Probe queries: documents asked for in their own words, to see whether a version still finds them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, NamedTuple

from kb_pipeline.index.reader import VersionReader
from kb_pipeline.index.search import Hit
from kb_pipeline.store.stage_tables import kept_documents
from kb_pipeline.store.table import LanceTable

if TYPE_CHECKING:
    import polars as pl

RECALL_DEPTH = 5
MRR_DEPTH = 10
SAMPLE = 24
"""Documents asked for. More than a tenth is then three of them: where a third of a site was lost, 996 of 1,000 samples
hold so many. Each costs a search of either version."""
_OPENING_CHUNKS = 8
"""Of each document: enough to find a sentence in, however long it is."""
_BACKGROUND_CHUNKS = 512
"""What tells common words from distinctive ones."""
_LONGEST, _LONGEST_UNSPACED = 60, 24
"""Characters of a question, as many as people type. Whole sentences are found by their words alone, and a model that
does not know the language goes unnoticed: over XQuAD in Spanish MRR fell by 0.04, with these by 0.18."""
_FEWEST_TERMS, _SCORED_TERMS = 5, 8
_OWN_WORDS = 1 / 3
"""Two texts of other matters share fewer of the words that are rare in the KB."""

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# What is no space and no punctuation: a letter with its marks stays whole, as isalnum() would not leave it.
_WORD = re.compile(r"[^\s!-/:-@\[-`{-~\u00a1-\u00bf\u2000-\u206f\u3000-\u303f\uff01-\uff0f\uff1a-\uff20\u060c\u061b\u061f\u06d4\u0964\u0965]+")  # fmt: skip  # noqa: E501
_UNSPACED_RUN = re.compile(f"[{_UNSPACED}]+")
_UNSPACED_CHARACTER = re.compile(f"[{_UNSPACED}]")
_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？｡।॥؟۔])\s*|\n+")
_MARKUP = re.compile(r"^\s*(?:#|\||```|~~~|!\[|[-*_=]{3,}\s*$)")
_LEADING = re.compile(r"^\s*(?:>|[-*+]\s|\d{1,3}[.)]\s)\s*")

Search = Callable[[str], list[Hit]]


@dataclass(frozen=True, slots=True)
class KnownItem:
    """A question whose answer is one document."""

    document_id: str
    key: str
    title: str
    """Empty when other documents bear it too: then it says nothing."""
    query: str
    terms: frozenset[str]
    """The words of the query that are neither common in the KB nor in the document's key."""

    def is_borne_by(self, hit: Hit) -> bool:
        """Whether a hit is the document as it was known, and not only its address.

        A page that asks to log in often names the address that was asked for, and is found by its words. A page that
        was rewritten keeps its title, one that was renamed keeps its words.
        """
        if hit.document_id != self.document_id:
            return False
        if self.title and hit.title == self.title:
            return True
        return len(self.terms & set(terms_of(hit.text))) >= _OWN_WORDS * len(self.terms)


@dataclass(frozen=True, slots=True)
class Score:
    """How well a version answered: the rank of each expected answer, None when it was not found."""

    ranks: tuple[int | None, ...]

    @property
    def recall(self) -> float:
        """The share found among the first five."""
        return sum(rank is not None and rank <= RECALL_DEPTH for rank in self.ranks) / max(1, len(self.ranks))

    @property
    def mrr(self) -> float:
        """Mean reciprocal rank within the first ten."""
        return sum(1 / rank for rank in self.ranks if rank is not None and rank <= MRR_DEPTH) / max(1, len(self.ranks))

    def worse_than(self, other: Score) -> list[int]:
        """Which questions the other answered earlier."""
        pairs = zip(self.ranks, other.ranks, strict=True)
        return [n for n, (mine, theirs) in enumerate(pairs) if theirs and (mine is None or mine > theirs)]

    def missed(self) -> list[int]:
        """Which questions were not answered among the first five."""
        return [n for n, rank in enumerate(self.ranks) if rank is None or rank > RECALL_DEPTH]


def known_items(version: VersionReader, among: Collection[str], count: int = SAMPLE) -> list[KnownItem]:
    """Ask for documents of a version, in words that are theirs alone.

    Args:
        version: whose texts the questions are made of.
        among: ids of the documents that may be asked for.
        count: how many are taken: those of the smallest ids, which are hashes, so the same from version to version.
    """
    import polars as pl

    table = version.table("documents")
    documents = table.read_columns(["document_id", "key", "title"], kept_documents(table.schema.names))
    titles = Counter(_folded(title) for title in documents["title"])
    wanted = documents.filter(pl.col("document_id").is_in(list(among))).sort("document_id").head(count)
    openings, background = _texts(version.table("chunks"), wanted["document_id"])
    common = Counter(term for text in background for term in set(terms_of(text)))
    return [
        _item(_Asked(document_id, key, title), openings[document_id], titles, common, len(background))
        for document_id, key, title in wanted.iter_rows()
        if "".join(openings.get(document_id, [])).strip()
    ]


def score_items(items: Sequence[KnownItem], search: Search) -> Score:
    """Ask all the questions of one version."""
    return Score(tuple(_rank(item, search(item.query)) for item in items))


def terms_of(text: str) -> list[str]:
    """Return the case-folded words of a text; for scripts without spaces, every two neighbouring characters."""
    found: list[str] = []
    for word in _WORD.findall(text.casefold()):
        end = 0
        for run in _UNSPACED_RUN.finditer(word):
            found += [word[end : run.start()]] if run.start() > end else []
            found += [run[0][n : n + 2] for n in range(max(1, len(run[0]) - 1))]
            end = run.end()
        found += [word[end:]] if end < len(word) else []
    return found


def _rank(item: KnownItem, hits: Iterable[Hit]) -> int | None:
    """Return the rank of the expected document among documents, however many chunks the others have; None if absent."""
    seen: set[str] = set()
    for hit in hits:
        seen.add(hit.document_id)
        if item.is_borne_by(hit):
            return len(seen)
    return None


class _Asked(NamedTuple):
    """A document that may be asked for."""

    document_id: str
    key: str
    title: str


def _item(
    document: _Asked, texts: Sequence[str], titles: Counter[str], common: Counter[str], background: int
) -> KnownItem:
    title = document.title if titles[_folded(document.title)] == 1 else ""
    in_key = set(terms_of(document.key))
    rarity = {term: log((1 + background) / (1 + common[term])) for text in texts for term in set(terms_of(text))}
    sentence = max(_sentences(texts), key=lambda text: _distinction(text, rarity, in_key))
    terms = sorted(set(terms_of(sentence)) - in_key, key=lambda term: (-rarity.get(term, 0.0), term))
    query = f"{title}. {sentence}" if title else sentence
    return KnownItem(document.document_id, document.key, title, query, frozenset(terms[: 2 * _SCORED_TERMS]))


def _distinction(sentence: str, rarity: Mapping[str, float], in_key: set[str]) -> float:
    """Weigh a sentence by its rarest words, where it is prose: figures and code are rare, but nobody asks so."""
    values = sorted((rarity.get(term, 0.0) for term in set(terms_of(sentence)) - in_key), reverse=True)
    letters = sum(character.isalpha() or character.isspace() for character in sentence) / len(sentence)
    return sum(values[:_SCORED_TERMS]) * (1.0 if letters > 0.85 else 0.3)


def _sentences(texts: Iterable[str]) -> list[str]:
    """Sentences long enough to tell a document by; the beginning of the text where there are none."""
    pieces = [piece for text in texts for line in text.split("\n") for piece in _prose(line)]
    whole = _cut(" ".join(" ".join(texts).split()))
    return [piece for piece in pieces if len(set(terms_of(piece))) >= _FEWEST_TERMS] or [whole]


def _prose(line: str) -> list[str]:
    if _MARKUP.match(line):
        return []
    plain = _LEADING.sub("", line).replace("**", "").replace("`", "")
    return [_cut(piece.strip()) for piece in _SENTENCE_END.split(plain) if piece and piece.strip()]


def _cut(text: str) -> str:
    """Return the beginning of a text, in whole words if its script has spaces."""
    if len(_UNSPACED_CHARACTER.findall(text[:_LONGEST])) > _LONGEST_UNSPACED:
        return text[:_LONGEST_UNSPACED]
    return text if len(text) <= _LONGEST else text[:_LONGEST].rsplit(" ", 1)[0]


def _texts(chunks: LanceTable, document_ids: pl.Series) -> tuple[dict[str, list[str]], list[str]]:
    """Return the first chunks of those documents, and a sample of all chunks."""
    import polars as pl

    rows = chunks.read_columns(["document_id", "ordinal"], row_ids=True).sort("document_id", "ordinal")
    opening = rows.filter(pl.col("document_id").is_in(document_ids.to_list()) & (pl.col("ordinal") < _OPENING_CHUNKS))
    background = rows.gather_every(max(1, rows.height // _BACKGROUND_CHUNKS)).head(_BACKGROUND_CHUNKS)
    openings: dict[str, list[str]] = {}
    for document_id, text in zip(opening["document_id"], _words(chunks, opening), strict=True):
        openings.setdefault(document_id, []).append(text)
    return openings, _words(chunks, background)


def _words(chunks: LanceTable, rows: pl.DataFrame) -> list[str]:
    return [text for part in chunks.take(rows["_rowid"].to_list(), ["words"]) for text in part["words"].to_pylist()]


def _folded(title: str | None) -> str:
    return " ".join((title or "").casefold().split())
