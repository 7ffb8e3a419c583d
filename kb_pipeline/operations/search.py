"""Searches a KB while other versions are published and cleaned away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from kb_pipeline.errors import UsageError
from kb_pipeline.index.documents import HitProvenance, provenance_of
from kb_pipeline.index.filters import read_filter
from kb_pipeline.index.languages import count_languages
from kb_pipeline.index.neighbours import MAX_CONTEXT, Neighbours, neighbours_of
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.index.search import Hit, Mode, rank_version, read_hits, require_count
from kb_pipeline.model import EmbeddingModel, JsonObject, KbKey
from kb_pipeline.operations.passages import Passage, choose_passages
from kb_pipeline.operations.readers import Readers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class _Found:
    """What was read of a version at once."""

    hits: list[Hit]
    ranked: int
    provenance: list[HitProvenance] | None
    neighbours: list[Neighbours] | None
    languages: Mapping[str, int] | None


class SearchResult(list[Hit]):
    """The hits of a search, best first, and which version gave them."""

    def __init__(self, version: VersionReader, mode: Mode, found: _Found, asked: _Query) -> None:
        super().__init__(found.hits)
        self.kb, self.version, self.mode = version.key, version.number, mode
        self._query = asked
        self.data_digest = version.data_digest
        """Names what was searched: the version's number alone does not, since erasing makes its tables anew."""
        self.ranked = found.ranked
        """How many chunks are in the ranking that the hits were taken from: with `offset` the others can be had."""
        self.provenance = found.provenance
        """Where each hit came from, in order, if that was asked for."""
        self.neighbours = found.neighbours
        """What stands before and after each hit, in order, if that was asked for."""
        self.languages = found.languages
        """Documents of the version by language, if none is in the language that was asked for."""

    @cached_property
    def passages(self) -> list[Passage]:
        """What a person reads of each hit, in order: the part that answers; chosen when it is first asked for."""
        return choose_passages(self, self._query.text, self._query.similarities if self.mode != "keyword" else None)

    def whole_passages(self) -> list[Passage]:
        """Return all that each hit says, in order, as plain text with the query's words marked."""
        return choose_passages(self, self._query.text, whole=True)

    def as_json(self) -> JsonObject:
        """Return it as `kb search --json` prints it."""
        hits = [hit.as_json() | {"passage": each.as_json()} for hit, each in zip(self, self.passages, strict=True)]
        if self.neighbours is not None:
            hits = [hit | around.as_json() for hit, around in zip(hits, self.neighbours, strict=True)]
        if self.provenance is not None:
            hits = [hit | {"provenance": origin.as_json()} for hit, origin in zip(hits, self.provenance, strict=True)]
        found = {"kb": str(self.kb), "version": self.version, "mode": self.mode, "hits": hits}
        return found if self.languages is None else found | {"languages": dict(self.languages)}


class _Query:
    """What was asked, and its vector, which is made when it is first needed."""

    def __init__(self, readers: Readers, text: str) -> None:
        self._readers, self.text = readers, text
        self._model: EmbeddingModel | None = None
        self._vector: NDArray[np.float32] | None = None

    def embed(self, model: EmbeddingModel) -> NDArray[np.float32]:
        """Return its vector."""
        if self._vector is None or model != self._model:
            self._model, self._vector = model, self._readers.embed_query(model, self.text)
        return self._vector

    def similarities(self, texts: list[str]) -> Sequence[float]:
        """Return the cosine of each text with the query, by the model that ranked."""
        if self._model is None or self._vector is None:
            raise ValueError("the query was not embedded")
        similarities: list[float] = (self._readers.embed_passages(self._model, texts) @ self._vector).tolist()
        return similarities


def search_kb(
    readers: Readers,
    key: KbKey,
    query: str,
    *,
    k: int,
    mode: Mode = "hybrid",
    language: str | None = None,
    filters: object = None,
    offset: int = 0,
    as_of: str | None = None,
    with_provenance: bool = False,
    context: int = 0,
) -> SearchResult:
    """Search a version with the model that its manifest names, which is opened only if the mode needs it.

    Raises:
        UnknownKb, NoLiveVersion, UnknownVersion, TenantInactive, DamagedStore: see `Readers.read`.
        UsageError: an empty query, or k, language, filters, offset, context or as_of out of range.
    """
    require_count(k)
    if offset < 0:
        raise UsageError(f"offset is {offset}; it is 0 or more")
    if not 0 <= context <= MAX_CONTEXT:
        raise UsageError(f"context is {context}; allowed are 0 to {MAX_CONTEXT} chunks")
    asked, chosen = _Query(readers, query), None if filters is None else read_filter(filters)

    def ask(version: VersionReader) -> _Found:
        ranked = rank_version(version, query, lambda _: asked.embed(version.manifest.model), mode, language, chosen)
        hits = read_hits(version, ranked[offset : offset + k])
        return _Found(
            hits,
            len(ranked),
            provenance_of(version, hits) if with_provenance else None,
            neighbours_of(version, hits, context) if context else None,
            _other_languages(version, language, hits),
        )

    version, found = readers.read(key, as_of, ask)
    return SearchResult(version, mode, found, asked)


def _other_languages(version: VersionReader, language: str | None, hits: Sequence[Hit]) -> Mapping[str, int] | None:
    if language is None or hits:
        return None
    counts = count_languages(version)
    return None if language in counts else counts
