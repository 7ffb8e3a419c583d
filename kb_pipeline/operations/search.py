"""Searches a KB while other versions are published and cleaned away."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kb_pipeline.index.documents import HitProvenance, provenance_of
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.index.search import Hit, Mode, search_version
from kb_pipeline.model import JsonObject, KbKey
from kb_pipeline.operations.readers import Readers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class SearchResult(list[Hit]):
    """The hits of a search, best first, and which version gave them."""

    def __init__(
        self, kb: KbKey, version: int, mode: Mode, hits: Iterable[Hit], provenance: list[HitProvenance] | None = None
    ) -> None:
        super().__init__(hits)
        self.kb, self.version, self.mode = kb, version, mode
        self.provenance = provenance
        """Where each hit came from, in order, if that was asked for."""

    def as_json(self) -> JsonObject:
        """Return it as `kb search --json` prints it."""
        hits = [hit.as_json() for hit in self]
        if self.provenance is not None:
            hits = [hit | {"provenance": origin.as_json()} for hit, origin in zip(hits, self.provenance, strict=True)]
        return {"kb": str(self.kb), "version": self.version, "mode": self.mode, "hits": hits}


def search_kb(
    readers: Readers,
    key: KbKey,
    query: str,
    *,
    k: int,
    mode: Mode = "hybrid",
    language: str | None = None,
    as_of: str | None = None,
    with_provenance: bool = False,
) -> SearchResult:
    """Search a version with the model that its manifest names, which is opened only if the mode needs it.

    Raises:
        UnknownKb, NoLiveVersion, UnknownVersion, TenantInactive, DamagedStore: see `Readers.read`.
        UsageError: an empty query, or k, language or as_of out of range.
    """

    def ask(version: VersionReader) -> tuple[list[Hit], list[HitProvenance] | None]:
        def embed(text: str) -> NDArray[np.float32]:
            return readers.embed_query(version.manifest.model, text)

        hits = search_version(version, query, embed, k=k, mode=mode, language=language)
        return hits, provenance_of(version, hits) if with_provenance else None

    version, (hits, provenance) = readers.read(key, as_of, ask)
    return SearchResult(key, version.number, mode, hits, provenance)
