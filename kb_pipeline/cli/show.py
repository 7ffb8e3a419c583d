"""How the command line shows hits, documents' differences, receipts and backups to people."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape

from kb_pipeline.clean.plain_text import plain_text
from kb_pipeline.cli.output import out, print_json, print_table, printable
from kb_pipeline.index.documents import HitProvenance
from kb_pipeline.index.search import Hit

_SNIPPET_CHARS = 240
_KEYS = 20
"""Keys of a difference that are shown, of each kind."""


def print_hits(hits: Sequence[Hit], provenances: Sequence[HitProvenance] | None = None) -> None:
    """Title, heading path, snippet and URL of each hit, and where it came from if that is given."""
    if not hits:
        out.print("no hits")
    for number, hit in enumerate(hits):
        path = " > ".join(heading for heading in hit.headings if heading != hit.title)
        place = f" [dim]({escape(printable(path))})[/]" if path else ""
        out.print(f"[bold]{hit.rank}. {escape(printable(hit.title))}[/]{place} [dim]{hit.language} {hit.score:.4f}[/]")
        snippet = textwrap.shorten(printable(plain_text(hit.text)), _SNIPPET_CHARS, placeholder=" ...")
        out.print(textwrap.indent(escape(snippet), "   "))
        out.print(f"   [cyan]{escape(printable(hit.key))}[/]")
        if provenances is not None:
            out.print(f"   {printable(_in_a_line(provenances[number]))}", markup=False, style="dim")
        out.print()


def _in_a_line(hit: HitProvenance) -> str:
    document = hit.document
    code = " ".join(f"{stage} {number}" for stage, number in document.code.items())
    validator = document.etag or document.last_modified or "no validator"
    return (
        f"characters {hit.start}-{hit.end} of sha256 {document.sha256}, fetched "
        f"{document.fetched_at.isoformat()} from {document.url} ({validator}), run {document.run_id}, "
        f"code {code}, model {document.model.name}"
    )


def print_diff(diff: Mapping[str, Any]) -> None:
    """Counts, then the first keys of each kind."""
    columns = ["added", "changed", "removed", "unchanged"]
    rows = [[noun, *(diff[noun].get(column) for column in columns)] for noun in ("documents", "chunks")]
    print_table(["", *columns], rows, title=f"{diff['kb']}: version {diff['from']} to {diff['to']}")
    for change, mark in (("added", "+"), ("changed", "~"), ("removed", "-")):
        keys = diff[change]
        for key in keys[:_KEYS]:
            out.print(f"{mark} {escape(printable(key))}")
        if len(keys) > _KEYS:
            out.print(f"{mark} and {len(keys) - _KEYS} more {change}; --json lists all")


def print_erasure(receipt: Mapping[str, Any]) -> None:
    """Every place that was looked into, and what was removed there."""
    out.print(f"{receipt['kb']}: {receipt['key']}: {receipt['status']} at {receipt['erased_at']}", markup=False)
    print_table(
        ["place", "removed", "what"], ([p["place"], p["removed"], p["what"]] for p in receipt.get("places", []))
    )
    print_table(["looked through again", "found"], ([c["store"], c["found"]] for c in receipt.get("checks", [])))
    _print_list("The same bytes or text are also stored under:", receipt["same_content_at"])
    _print_list("It stood for these in the index; the next refresh makes them found again:", receipt["stood_for"])
    _print_list("Not reached:", receipt["not_reached"])


def _print_list(heading: str, lines: list[str]) -> None:
    if lines:
        out.print(heading, *lines, sep="\n  ", markup=False)


def print_replay(result: Mapping[str, Any]) -> None:
    """What was compared, the verdict, and every difference."""
    chunks = result["chunks"]
    out.print(f"bytes     {_verdict(result['bytes_match'])} {result['raw_sha256']}")
    out.print(f"document  {_verdict(result['document_matches'])} {result['document_id']}")
    if result["duplicate_of"]:
        out.print(f"chunks    none: the same text is indexed as {result['duplicate_of']}")
    else:
        out.print(f"chunks    {chunks['matching']} match, {chunks['stored']} stored, {chunks['derived']} came out")
    for reason in result["differs"]:
        out.print(f"- {printable(reason)}", markup=False)
    out.print(f"version {result['version']}: {'matches' if result['matches'] else 'DOES NOT MATCH'}")


def _verdict(matches: bool) -> str:
    return "match " if matches else "DIFFER"


def print_backup(outcome: Mapping[str, Any], *, as_json: bool) -> None:
    """What was copied, and what is not part of it."""
    if as_json:
        print_json(outcome)
        return
    for name, value in outcome.items():
        if not isinstance(value, list):
            out.print(f"{name:<14} {value:,}" if isinstance(value, int) else f"{name:<14} {value}", markup=False)
    for version in outcome.get("live_versions", []):
        out.print(f"searched: {version}", markup=False)
    for line in outcome["left_out"]:
        out.print(f"not part of it: {line}", markup=False)
