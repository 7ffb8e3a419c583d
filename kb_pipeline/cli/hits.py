"""Prints the hits of a search: by page for people, one a line for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.text import Text

from kb_pipeline.clean.plain_text import plain_text
from kb_pipeline.cli.terminal import out, printable

if TYPE_CHECKING:
    from kb_pipeline.index.documents import HitProvenance
    from kb_pipeline.index.search import Hit
    from kb_pipeline.operations.passages import Passage
    from kb_pipeline.operations.search import SearchResult

_INDENT = "   "
_SPACES = str.maketrans("\t\n\r", "   ")
_MARK = "bold underline"
"""Readable on any background, also without colours."""


def print_hits(found: SearchResult) -> None:
    """Print each page once, in the order of its best hit, and below it its passages with the query's words marked."""
    if not found:
        out.print("no hits")
    pages: dict[str, list[int]] = {}
    for number, hit in enumerate(found):
        pages.setdefault(hit.document_id, []).append(number)
    passages = found.passages if found.neighbours is None else found.whole_passages()
    for numbers in pages.values():
        page = found[numbers[0]]
        out.print(f"[bold]{escape(printable(page.title))}[/] [dim]{page.language}[/]")
        out.print(f"[cyan]{escape(printable(page.key))}[/]")
        for number in numbers:
            _print_hit(found, number, passages[number])
        out.print()


def print_hit_rows(found: SearchResult) -> None:
    """Print each hit on one line: rank, score, key, title, headings and passage, separated by tabs.

    What was asked for besides follows: the texts before and after it, then where it came from.
    """
    for number, (hit, passage) in enumerate(zip(found, found.passages, strict=True)):
        cells = [str(hit.rank), f"{hit.score:.6f}", hit.key, hit.title, " > ".join(hit.headings), passage.text]
        if found.neighbours is not None:
            cells += [found.neighbours[number].before, found.neighbours[number].after]
        if found.provenance is not None:
            cells.append(_provenance_line(found.provenance[number]))
        sys.stdout.write("\t".join(printable(cell.translate(_SPACES)) for cell in cells) + "\n")


def _print_hit(found: SearchResult, number: int, passage: Passage) -> None:
    hit = found[number]
    out.print(f"[dim]{hit.rank}. {escape(printable(_place(hit)))}[/]")
    around = None if found.neighbours is None else found.neighbours[number]
    if around is not None:
        _print_indented(Text(printable(plain_text(around.before)), "dim"))
    text = Text(printable(passage.text))
    for start, end in passage.marks:
        text.stylize(_MARK, start, end)
    _print_indented(text)
    if around is not None:
        _print_indented(Text(printable(plain_text(around.after)), "dim"))
    if found.provenance is not None:
        _print_indented(Text(printable(_provenance_line(found.provenance[number])), "dim"))


def _place(hit: Hit) -> str:
    path = [heading for heading in hit.headings if heading != hit.title]
    return f"{' > '.join(path)}  {hit.score:.4f}" if path else f"{hit.score:.4f}"


def _print_indented(text: Text) -> None:
    for line in _wrapped(text):
        out.print(_INDENT, line, sep="")


def _wrapped(text: Text) -> Iterator[Text]:
    for line in text.split(allow_blank=False):
        yield from line.wrap(out, max(20, out.width - len(_INDENT)))


def _provenance_line(hit: HitProvenance) -> str:
    document = hit.document
    code = " ".join(f"{stage} {number}" for stage, number in document.code.items())
    validator = document.etag or document.last_modified or "no validator"
    return (
        f"characters {hit.start}-{hit.end} of sha256 {document.sha256}, fetched "
        f"{document.fetched_at.isoformat()} from {document.url} ({validator}), run {document.run_id}, "
        f"code {code}, model {document.model.name}"
    )
