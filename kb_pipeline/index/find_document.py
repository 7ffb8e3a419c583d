"""Finds the document that a person means: by its key, or by a part of its address or title that no other has."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from urllib.parse import unquote

from kb_pipeline.errors import AmbiguousDocument, UnknownDocument
from kb_pipeline.index.documents import redirected
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.store.stage_tables import kept_documents
from kb_pipeline.store.table import sql_in

_NEAR = 3
_LIKENESS = 0.6
_MOST_COMPARED = 20_000
"""Keys of a version with more documents are not compared for a likeness: it takes seconds."""


@dataclass(frozen=True, slots=True)
class _Key:
    key: str


def find_document(version: VersionReader, name: str) -> str:
    """Return the key of the document that is meant.

    The first of these that any document has decides: the key, or that of a page that redirects to it; the address
    without scheme, `www.`, case and closing slash; the end of the address; a part of it; the title; a part of that.

    Raises:
        UnknownDocument: none has it; it names keys that are like it.
        AmbiguousDocument: several have it.
    """
    documents, exact = version.table("documents"), redirected(version, name)
    if documents.rows(_Key, sql_in("key", [exact]) + " AND outcome = 'document'", limit=1):
        return exact
    table = documents.read_columns(["key", "title"], kept_documents(documents.schema.names))
    titles: dict[str, str] = {key: title or "" for key, title in table.iter_rows()}
    for matches in _matchers(name):
        found = sorted(key for key, title in titles.items() if matches(key, title))
        if len(found) == 1:
            return found[0]
        if found:
            raise AmbiguousDocument(version.key, name, found)
    near = get_close_matches(name, titles, n=_NEAR, cutoff=_LIKENESS) if len(titles) <= _MOST_COMPARED else []
    raise UnknownDocument(version.key, name, near)


def _matchers(name: str) -> Iterator[Callable[[str, str], bool]]:
    address, words = _bare(name), name.strip().casefold()
    if not words:
        return
    ending = "/" + address.lstrip("/")
    yield lambda key, _: _bare(key) == address
    yield lambda key, _: f"/{_bare(key)}".endswith(ending)
    yield lambda key, _: address in _bare(key)
    yield lambda _, title: title.casefold() == words
    yield lambda _, title: words in title.casefold()


def _bare(address: str) -> str:
    """Return an address without what people leave out: scheme, `www.`, case, escapes, the closing slash."""
    return re.sub(r"^(?:[a-z][a-z0-9+.-]*://)?(?:www\.)?", "", unquote(address.strip()).casefold()).rstrip("/")
