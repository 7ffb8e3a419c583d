"""`kb versions`, `rollback`, `approve` and `erase`: the states that a KB was in."""

from __future__ import annotations

from typing import Annotated

import typer

from kb_pipeline.cli.session import JsonOption, KbArgument, KeyArgument, open_kb

VersionArgument = Annotated[int, typer.Argument(metavar="V", help="A version's number.", min=1)]


def versions(kb: KbArgument, as_json: JsonOption = False) -> None:
    """List the versions of a KB, newest first."""
    from kb_pipeline.cli.output import print_json, print_table

    rows = open_kb(kb).versions()
    if as_json:
        print_json([row.as_json() for row in rows])
        return
    scores = {"recall@5": "known_item_recall_at_5", "mrr": "known_item_mrr"}
    print_table(
        ["version", "status", "created", "documents", "chunks", *scores],
        (
            [
                f"{row.version}{' live' if row.live else ''}", row.status, row.created_at.isoformat()[:16],
                row.documents, row.chunks, *(row.scores.get(name) for name in scores.values()),
            ]
            for row in rows
        ),
    )  # fmt: skip


def rollback(kb: KbArgument, version: VersionArgument, as_json: JsonOption = False) -> None:
    """Make an earlier version live again; nothing is fetched, embedded or copied."""
    from kb_pipeline.cli.output import out, print_json

    result = open_kb(kb).rollback(version)
    if as_json:
        print_json(result.as_json())
    else:
        out.print(f"{kb}: version {version} is live, version {result.rolled_back} was rolled back")


def approve(kb: KbArgument, version: VersionArgument, as_json: JsonOption = False) -> None:
    """Publish a version that a check held."""
    from kb_pipeline.cli.output import out, print_json

    result = open_kb(kb).approve(version)
    if as_json:
        print_json(result.as_json())
    else:
        out.print(f"{kb}: version {version} is live")


def erase(
    kb: KbArgument,
    key: KeyArgument,
    lift: Annotated[bool, typer.Option("--lift", help="Let an erased document be fetched again.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove a document from every kept version, raw bytes, caches and indexes for good; prints the receipt."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.show import print_erasure

    chosen = open_kb(kb)
    receipt = chosen.lift_erasure(key) if lift else chosen.erase(key)
    print_json(receipt.as_json()) if as_json else print_erasure(receipt)
