"""Searches a KB while other versions are published and cleaned away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
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


_RESULT_BYTES, _HIT_BYTES = 500, 2_000
"""Estimates of what a kept result takes, and each of its hits beside its text."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What was read of a version at once."""

    hits: list[Hit]
    ranked: int
    provenance: list[HitProvenance] | None
    neighbours: list[Neighbours] | None
    languages: Mapping[str, int] | None

    @property
    def size_bytes(self) -> int:
        """Estimate of the memory that it takes, for the cache."""
        texts = sum(len(hit.text) for hit in self.hits)
        around = sum(len(each.before) + len(each.after) for each in self.neighbours or ())
        return _RESULT_BYTES + _HIT_BYTES * len(self.hits) + texts + around


class SearchResult(list[Hit]):
    """The hits of a search, best first, and which version gave them."""

    def __init__(self, version: VersionReader, mode: Mode, found: _Found, asked: _Query) -> None:
        super().__init__(found.hits)
        self.kb, self.version, self.mode = version.key, version.number, mode
        self._query, self._model = asked, version.manifest.model
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
        similarities = partial(self._query.similarities, self._model) if self.mode != "keyword" else None
        return choose_passages(self, self._query.text, similarities)

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
    """What a tenant asked, and its vector, which is made when it is first needed."""

    def __init__(self, readers: Readers, tenant: str, text: str) -> None:
        self._readers, self._tenant, self.text = readers, tenant, text

    def embed(self, model: EmbeddingModel) -> NDArray[np.float32]:
        """Return its vector."""
        return self._readers.embed_query(self._tenant, model, self.text)

    def similarities(self, model: EmbeddingModel, texts: list[str]) -> Sequence[float]:
        """Return the cosine of each text with the query, by the model that ranked."""
        similarities: list[float] = (self._readers.embed_passages(model, texts) @ self.embed(model)).tolist()
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
    asked, chosen = _Query(readers, key.tenant, query), None if filters is None else read_filter(filters)
    request = (query, k, mode, language, repr(chosen), offset, with_provenance, context)

    def ask(version: VersionReader) -> _Found:
        data = (version.key, version.data_digest)
        found: _Found = readers.searches.get_or_make((*data, *request), lambda: look(version))
        return found

    def look(version: VersionReader) -> _Found:
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
