"""Cuts from the documents of a site what most of its pages open or close with: its template, in text.

Cleaning sees one page at a time and cannot tell what stands on every page from what is a page's own. Blocks that half
of the pages of a host begin or end with are no page's own: they stay in one document, the first by its key, so that
they are found, and go from the others. What was cut is kept beside the document: when the site or its template changes,
it is put back and judged again, so that a refresh gives what a first build would.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from kb_pipeline.clean.blocks import Edges, cut
from kb_pipeline.clean.fingerprints import comparisons_of, hashes_of
from kb_pipeline.store.table import LanceTable, sql_in
from kb_pipeline.word_count import count_words

if TYPE_CHECKING:
    import pyarrow as pa

_LEAST_PAGES = 5
"""Pages of a host that have a block, from which it may be its template."""
_SHARE = 0.5
"""Of the pages of a host."""
_BATCH = 500
_UNCUT = (0, 0)
_WRITTEN = ("document_id", "markdown", "sketch", "segments", "template", "content_sha256", "document_hash", "words",
            "cut_blocks", "cut_text")  # fmt: skip
_READ = ("document_id", "key", "title", "language", "markdown", "words", "cut_text")
Cut = tuple[int, int]


def cut_templates(documents: LanceTable, gone: Sequence[str]) -> None:
    """Cut what is repeated from all documents of which that was not judged, and from the others where it changed.

    Args:
        documents: the table.
        gone: ids of documents that are about to be deleted.
    """
    where = "outcome = 'document' AND edges IS NOT NULL"
    if not gone and not documents.count(f"{where} AND cut_blocks IS NULL"):
        return
    rows = documents.read_columns(["document_id", "source", "key", "edges", "cut_blocks"], where)
    before = {row[0]: row[4] for row in rows.iter_rows()}
    leaving = set(gone)
    found = find_templates(row[:4] for row in rows.iter_rows() if row[0] not in leaving)
    changed = {each: now for each, now in found.items() if before[each] != _written(now)}
    moved = [each for each, now in changed.items() if (before[each] or _written(_UNCUT)) != _written(now)]
    _mark(documents, {each: now for each, now in changed.items() if each not in set(moved)})
    for start in range(0, len(moved), _BATCH):
        _rewrite(documents, {each: changed[each] for each in moved[start : start + _BATCH]})


def find_templates(rows: Iterable[tuple[str, str, str, bytes]]) -> dict[str, Cut]:
    """Return how many blocks at both ends of each document are its site's template.

    Args:
        rows: an id, a source, a key, and what `Edges.to_bytes` wrote.
    """
    hosts: dict[tuple[str, str], list[tuple[str, str, Edges]]] = {}
    for document, source, key, edges in rows:
        hosts.setdefault((source, _host(key)), []).append((key, document, Edges.from_bytes(edges)))
    found: dict[str, Cut] = {}
    for pages in hosts.values():
        repeated = _repeated([edges for _, _, edges in pages])
        first = min(pages, key=lambda page: page[:2])[1]
        found |= {each: _UNCUT if each == first else _cut_of(edges, repeated) for _, each, edges in pages}
    return found


def read_cut(stored: str | None) -> Cut:
    """Return how many blocks are cut from the beginning and from the end of a document."""
    opening, _, closing = (stored or "0:0").partition(":")
    return int(opening), int(closing)


def _written(number: Cut) -> str:
    return f"{number[0]}:{number[1]}"


def _host(key: str) -> str:
    try:
        return urlsplit(key).netloc
    except ValueError:
        return ""


def _repeated(pages: Sequence[Edges]) -> frozenset[int]:
    counts = Counter(each for page in pages for each in {*page.opening, *page.closing})
    least = max(_LEAST_PAGES, _SHARE * len(pages))
    return frozenset(each for each, count in counts.items() if each and count >= least)


def _cut_of(edges: Edges, repeated: frozenset[int]) -> Cut:
    """Return how much of a document is template; nothing of one that would be left without a block."""
    opening, closing = _run(edges.opening, repeated), _run(edges.closing, repeated)
    return (opening, closing) if opening + closing < edges.count else _UNCUT


def _run(hashes: Sequence[int], repeated: frozenset[int]) -> int:
    return next((number for number, each in enumerate(hashes) if each not in repeated), len(hashes))


def _mark(documents: LanceTable, found: Mapping[str, Cut]) -> None:
    """Write that documents were judged of which nothing changes."""
    rows = [{"document_id": each, "cut_blocks": _written(now)} for each, now in found.items()]
    if rows:
        _upsert(documents, rows, ("document_id", "cut_blocks"))


def _rewrite(documents: LanceTable, found: Mapping[str, Cut]) -> None:
    stored = documents.head(list(_READ), len(found), sql_in("document_id", sorted(found))).to_pylist()
    _upsert(documents, list(_rewritten(stored, found)), _WRITTEN)


def _rewritten(stored: Iterable[Mapping[str, Any]], found: Mapping[str, Cut]) -> Iterator[dict[str, Any]]:
    for row in stored:
        before = json.loads(row["cut_text"]) if row["cut_text"] else ["", ""]
        opening, text, closing = cut(before[0] + row["markdown"] + before[1], *found[row["document_id"]])
        is_cut = bool(opening or closing)
        yield {
            "document_id": row["document_id"],
            "markdown": text,
            **comparisons_of(row["key"], row["title"], text),
            **hashes_of(row["key"], row["title"], row["language"], text),
            "words": _words(row["words"], text, opening + closing),
            "cut_blocks": _written(found[row["document_id"]]),
            "cut_text": json.dumps([opening, closing], ensure_ascii=False) if is_cut else None,
        }


def _words(stored: str | None, kept: str, removed: str) -> str:
    counts = json.loads(stored or "{}") | {"kept": count_words(kept), "repeated": count_words(removed)}
    return json.dumps({reason: count for reason, count in counts.items() if count or reason == "kept"})


def _upsert(documents: LanceTable, rows: list[dict[str, Any]], columns: Sequence[str]) -> None:
    import pyarrow as pa

    schema: pa.Schema = pa.schema([documents.schema.field(name) for name in columns])
    documents.upsert(pa.Table.from_pylist(rows, schema=schema))
