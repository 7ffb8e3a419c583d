"""`kb search`, `documents`, `page`, `diff`, `export`, `replay` and `extract`: what a version holds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from kb_pipeline.cli.session import AsOf, JsonOption, KbArgument, KeyArgument, home, open_kb, require_utf8


def search(
    kb: KbArgument,
    query: Annotated[str, typer.Argument(help="Words or a question.", callback=require_utf8)],
    k: Annotated[int, typer.Option("-k", help="How many hits, 1 to 100.")] = 5,
    mode: Annotated[Literal["hybrid", "vector", "keyword"], typer.Option(help="How to rank.")] = "hybrid",
    language: Annotated[str | None, typer.Option(help="Only documents in that language (ISO 639).")] = None,
    provenance: Annotated[bool, typer.Option("--provenance", help="Say where each hit came from.")] = False,
    as_of: AsOf = None,
    as_json: JsonOption = False,
) -> None:
    """Search the live version, or an earlier one."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.show import print_hits

    found = open_kb(kb).search(query, k, mode=mode, language=language, as_of=as_of, provenance=provenance)
    if as_json:
        print_json(found.as_json())
    else:
        print_hits(found, found.provenance)


def documents(
    kb: KbArgument,
    left_out: Annotated[
        bool, typer.Option("--left-out", help="What has no document instead, and why, by the newest refresh.")
    ] = False,
    reason: Annotated[str | None, typer.Option(help="Of what is left out, only for that reason code.")] = None,
    source: Annotated[str | None, typer.Option(help="Only of that source.")] = None,
    as_of: AsOf = None,
    as_json: JsonOption = False,
) -> None:
    """List the documents of the live version, or an earlier one; or every key that has none, and why."""
    from kb_pipeline.cli.output import print_json, print_table
    from kb_pipeline.cli.show import print_left_out

    chosen = open_kb(kb)
    if left_out or reason is not None:
        missing = chosen.left_out(reason=reason, source=source, as_of=as_of)
        if as_json:
            for each in missing:
                print_json(each.as_json())
        else:
            print_left_out(missing)
        return
    rows = (row for row in chosen.documents(as_of=as_of) if source in (None, row.source))
    if as_json:
        for row in rows:
            print_json(row.as_json())
        return
    columns = ["key", "title", "language", "chunks"]
    print_table(columns, ([getattr(row, name) for name in columns] for row in rows))


def page(
    kb: KbArgument,
    key: KeyArgument,
    raw: Annotated[bool, typer.Option("--raw", help="The exact bytes instead of the Markdown.")] = False,
    as_of: AsOf = None,
    as_json: JsonOption = False,
) -> None:
    """Show a document's Markdown (or its exact bytes) and where it came from."""
    from kb_pipeline.cli.output import err, print_json, printable

    chosen = open_kb(kb)
    if raw and not as_json:
        sys.stdout.buffer.write(chosen.raw_bytes(key, as_of=as_of))
        return
    document = chosen.document(key, as_of=as_of)
    fields = document.as_json()
    if as_json:
        print_json(fields)
        return
    sys.stdout.write(printable(document.markdown) + "\n")
    del fields["markdown"]
    for name, value in fields.items():
        err.print(f"{name:<14} {value}", markup=False, style="dim")


def diff(
    kb: KbArgument,
    v1: Annotated[str, typer.Argument(metavar="V1", help="The earlier version: its number or an ISO time.")],
    v2: Annotated[str, typer.Argument(metavar="V2", help="The later version.")],
    feed: Annotated[bool, typer.Option("--feed", help="Every change as JSON lines, to apply in order.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show which documents and chunks one version added to, changed in or removed from another."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.show import print_diff

    chosen = open_kb(kb)
    if feed:
        for change in chosen.change_feed(v1, v2):
            print_json(change.as_json())
        return
    difference = chosen.diff(v1, v2)
    print_json(difference.as_json()) if as_json else print_diff(difference)


def export(
    kb: KbArgument,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A directory that does not exist yet.")],
    as_of: AsOf = None,
    as_json: JsonOption = False,
) -> None:
    """Write a version as Parquet files: documents, chunks with their vectors, and its manifest."""
    from kb_pipeline.cli.output import out, print_json

    exported = open_kb(kb).export(directory, as_of=as_of)
    if as_json:
        print_json(exported.as_json())
        return
    for file in exported.files:
        out.print(f"{file.name:<18} {file.bytes:>12,} bytes  sha256 {file.sha256}")
    counts = f"{exported.documents} documents, {exported.chunks} chunks"
    out.print(f"{kb}: version {exported.version}, {counts} in {exported.directory}", markup=False)


def replay(kb: KbArgument, key: KeyArgument, as_of: AsOf = None, as_json: JsonOption = False) -> None:
    """Make a document's chunks again from its stored bytes by the recorded rules; exit status 1 if they differ."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.show import print_replay

    result = open_kb(kb).replay(key, as_of=as_of)
    print_json(result.as_json()) if as_json else print_replay(result)
    raise typer.Exit(0 if result.matches else 1)


def extract(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="HTML, text or Markdown files.")],
    url: Annotated[str | None, typer.Option(help="Where the page came from, for its relative links.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the clean stage alone over files: JSON lines with title, language, text and Markdown."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.operations.extract import UnextractedFile

    failed = False
    for result in home().extract(*files, url=url):
        failed |= isinstance(result, UnextractedFile)
        print_json(result.as_json())
    raise typer.Exit(1 if failed else 0)
