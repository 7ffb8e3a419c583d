"""`kb search`, `documents`, `page`, `diff`, `export`, `replay` and `extract`: what a version holds."""

from __future__ import annotations

import json
import sys
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kb_pipeline.cli.rows import ColumnsOption, LimitOption
from kb_pipeline.cli.session import (
    AsOf,
    JsonOption,
    KbArgument,
    KeyArgument,
    home,
    open_kb,
    require_all_utf8,
)

if TYPE_CHECKING:
    from kb_pipeline.installation import Kb

_DOCUMENT_COLUMNS = (
    "key", "title", "language", "chunks", "source", "document_id", "sha256", "fetched_at", "run_id",
)  # fmt: skip


def search(
    kb: KbArgument,
    query: Annotated[
        list[str],
        typer.Argument(metavar="QUERY...", help="Words or a question, in quotes or not.", callback=require_all_utf8),
    ],
    k: Annotated[int, typer.Option("-k", help="How many hits, 1 to 100.")] = 5,
    mode: Annotated[Literal["hybrid", "vector", "keyword"], typer.Option(help="How to rank.")] = "hybrid",
    language: Annotated[str | None, typer.Option(help="Only documents in that language (ISO 639).")] = None,
    filters: Annotated[
        str | None, typer.Option("--filter", metavar="JSON", help="Only documents that satisfy it: docs/api.md.")
    ] = None,
    provenance: Annotated[bool, typer.Option("--provenance", help="Say where each hit came from.")] = False,
    context: Annotated[
        int, typer.Option(metavar="N", help="Show each hit whole, with N chunks before and after it, 0 to 5.")
    ] = 0,
    as_of: AsOf = None,
    as_json: JsonOption = False,
) -> None:
    """Search the live version, or an earlier one."""
    from kb_pipeline.cli.hits import print_hit_rows, print_hits
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.index.languages import list_languages

    found = open_kb(kb).search(
        " ".join(query), k, mode=mode, language=language, filters=_parsed(filters), as_of=as_of,
        provenance=provenance, context=context,
    )  # fmt: skip
    if found.languages is not None:
        there_are = list_languages(found.languages)
        typer.echo(f"kb: {kb}: no documents in {language}; there are: {there_are}", err=True)
    if as_json:
        print_json(found.as_json())
    elif sys.stdout.isatty():
        print_hits(found)
    else:
        print_hit_rows(found)


def _parsed(filters: str | None) -> dict[str, Any] | None:
    from kb_pipeline.errors import UsageError

    if filters is None:
        return None
    try:
        parsed: dict[str, Any] = json.loads(filters)
    except (ValueError, RecursionError) as error:
        example = '{"type": "eq", "key": "language", "value": "en"}'
        raise UsageError(f"--filter is no JSON ({error}); write it as in: --filter '{example}'") from None
    return parsed


def documents(
    kb: KbArgument,
    left_out: Annotated[
        bool, typer.Option("--left-out", help="What has no document instead, and why, by the newest refresh.")
    ] = False,
    reason: Annotated[str | None, typer.Option(help="Of what is left out, only for that reason code.")] = None,
    source: Annotated[str | None, typer.Option(help="Only of that source.")] = None,
    language: Annotated[str | None, typer.Option(help="Only in that language (ISO 639).")] = None,
    limit: LimitOption = None,
    columns: ColumnsOption = None,
    as_of: AsOf = None,
    as_json: JsonOption = False,
) -> None:
    """List the documents of the live version, or an earlier one; or every key that has none, and why."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.rows import print_rows
    from kb_pipeline.cli.show import print_left_out

    chosen = open_kb(kb)
    if left_out or reason is not None:
        missing = islice(chosen.left_out(reason=reason, source=source, as_of=as_of), limit)
        if as_json:
            for each in missing:
                print_json(each.as_json())
        else:
            print_left_out(missing, columns)
        return
    listed = (row for row in chosen.documents(as_of=as_of) if source in (None, row.source))
    rows = islice((row for row in listed if language in (None, row.language)), limit)
    if as_json:
        for row in rows:
            print_json(row.as_json())
        return
    print_rows(rows, {name: attrgetter(name) for name in _DOCUMENT_COLUMNS}, _DOCUMENT_COLUMNS[:4], chosen=columns)


def page(
    kb: KbArgument,
    key: KeyArgument,
    raw: Annotated[bool, typer.Option("--raw", help="The exact bytes instead of the Markdown.")] = False,
    as_of: AsOf = None,
    as_json: JsonOption = False,
) -> None:
    """Show a document's Markdown (or its exact bytes) and where it came from."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.terminal import err, printable

    chosen = open_kb(kb)
    key = found_document(chosen, key, as_of)
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
        if value not in (None, {}, []):
            told = json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value
            err.print(f"{name:<14} {told}", markup=False, style="dim")


def found_document(kb: Kb, name: str, as_of: str | None) -> str:
    """Return the key of the document that is meant, and say so if more than its key was given."""
    from kb_pipeline.cli.terminal import printable

    key = kb.find_document(name, as_of=as_of)
    if key != name:
        sys.stderr.write(printable(f"{name} is {key}\n"))
    return key


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
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.rows import Bytes, print_table
    from kb_pipeline.cli.terminal import out

    exported = open_kb(kb).export(directory, as_of=as_of)
    if as_json:
        print_json(exported.as_json())
        return
    print_table(["file", "size", "sha256"], ([file.name, Bytes(file.bytes), file.sha256] for file in exported.files))
    counts = f"{exported.documents} documents, {exported.chunks} chunks"
    out.print(f"{kb}: version {exported.version}, {counts} in {exported.directory}", markup=False)


def replay(kb: KbArgument, key: KeyArgument, as_of: AsOf = None, as_json: JsonOption = False) -> None:
    """Make a document's chunks again from its stored bytes by the recorded rules; exit status 1 if they differ."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.show import print_replay

    chosen = open_kb(kb)
    result = chosen.replay(found_document(chosen, key, as_of), as_of=as_of)
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
