"""Pages of one ranking: a cursor stays with the version and the data that the first page was found in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kb_pipeline.errors import UnknownVersion
from kb_pipeline.installation import Kb
from kb_pipeline.service.cursors import SearchPlace, read_search_place
from kb_pipeline.service.problems import VersionGone

if TYPE_CHECKING:
    from kb_pipeline.operations.search import SearchResult

DECIDING = {"query", "mode", "language", "filters"}
"""The fields of a request that decide the ranking."""


@dataclass(frozen=True, slots=True)
class SearchPage:
    """One page of hits, and where it is in the ranking."""

    found: SearchResult
    offset: int
    deciding: Mapping[str, Any]

    def cursor_after(self, hits: int) -> str:
        """Return the cursor that leads on after so many hits of the page."""
        place = SearchPlace(self.found.version, self.offset + hits, self.found.data_digest)
        return place.as_cursor(dict(self.deciding))


def place_of(cursor: str | None, deciding: Mapping[str, Any]) -> SearchPlace | None:
    """Return where a cursor leads; raise UsageError for none of ours, or one of another search."""
    return None if cursor is None else read_search_place(cursor, dict(deciding))


def search_page(
    kb: Kb,
    deciding: Mapping[str, Any],
    k: int,
    *,
    cursor: str | None,
    as_of: str | int | None,
    provenance: bool = False,
) -> SearchPage:
    """Search a KB, or go on where a cursor leads.

    Args:
        kb: to search.
        deciding: `query`, `mode`, `language` and `filters`; see `Kb.search`.
        k: the most hits.
        cursor: of the page before.
        as_of: which version; a cursor has its own.
        provenance: whether to say of each hit where it came from.

    Raises:
        VersionGone: the cursor's version is not kept any more, or a document of it was erased.
        UsageError: the cursor is none of ours, or of another search.
    """
    place = place_of(cursor, deciding)
    try:
        found = kb.search(
            deciding["query"], k, mode=deciding["mode"], language=deciding["language"], filters=deciding["filters"],
            offset=place.offset if place else 0, as_of=place.version if place else as_of, provenance=provenance,
        )  # fmt: skip
    except UnknownVersion as error:
        raise VersionGone(error) if place else error from None
    if place and place.data_digest != found.data_digest:
        raise VersionGone(f"{kb.key}: a document of version {found.version} was erased since")
    return SearchPage(found, place.offset if place else 0, deciding)
