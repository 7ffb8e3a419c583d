"""`kb versions`, `rollback`, `approve` and `erase`: the states that a KB was in."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated

import typer

from kb_pipeline.cli.rows import ColumnsOption, LimitOption
from kb_pipeline.cli.session import (
    DryRunOption,
    ExactKeyArgument,
    JsonOption,
    KbArgument,
    YesOption,
    confirm,
    open_kb,
)

if TYPE_CHECKING:
    from kb_pipeline.control.kbs.versions import VersionRecord

_VERSION_COLUMNS: dict[str, Callable[[VersionRecord], object]] = {
    "version": attrgetter("version"),
    "live": lambda row: "live" if row.live else "",
    "status": attrgetter("status"),
    "created": attrgetter("created_at"),
    "documents": attrgetter("documents"),
    "chunks": attrgetter("chunks"),
    "recall@5": lambda row: row.scores.get("known_item_recall_at_5"),
    "mrr": lambda row: row.scores.get("known_item_mrr"),
    "threshold": lambda row: row.scores.get("answer_threshold"),
    "model": attrgetter("model"),
    "run_id": attrgetter("run_id"),
}
VersionArgument = Annotated[int, typer.Argument(metavar="V", help="A version's number.", min=1)]


def versions(
    kb: KbArgument, limit: LimitOption = None, columns: ColumnsOption = None, as_json: JsonOption = False
) -> None:
    """List the versions of a KB, newest first."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.rows import print_rows

    rows = open_kb(kb).versions()[:limit]
    if as_json:
        print_json([row.as_json() for row in rows])
        return
    print_rows(rows, _VERSION_COLUMNS, list(_VERSION_COLUMNS)[:-2], chosen=columns)


def rollback(kb: KbArgument, version: VersionArgument, as_json: JsonOption = False) -> None:
    """Make an earlier version live again; nothing is fetched, embedded or copied."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.terminal import out

    result = open_kb(kb).rollback(version)
    if as_json:
        print_json(result.as_json())
    else:
        out.print(f"{kb}: version {version} is live, version {result.rolled_back} was rolled back")


def approve(kb: KbArgument, version: VersionArgument, as_json: JsonOption = False) -> None:
    """Publish a version that a check held."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.terminal import out

    result = open_kb(kb).approve(version)
    if as_json:
        print_json(result.as_json())
    else:
        out.print(f"{kb}: version {version} is live")


def erase(
    kb: KbArgument,
    key: ExactKeyArgument,
    lift: Annotated[bool, typer.Option("--lift", help="Let an erased document be fetched again.")] = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove a document from every kept version, raw bytes, caches and indexes for good; prints the receipt."""
    from kb_pipeline.cli.output import print_json
    from kb_pipeline.cli.show import print_erasure, print_plan

    chosen = open_kb(kb)
    chosen.caller.require("erase")  # before anybody is asked
    if dry_run:
        plan = chosen.erasure_plan(key)
        print_json(plan.as_json()) if as_json else print_plan(plan)
        return
    if not lift:
        confirm(f"Remove {key} from every version of {kb} now, for good?", yes=yes)
    receipt = chosen.lift_erasure(key) if lift else chosen.erase(key)
    print_json(receipt.as_json()) if as_json else print_erasure(receipt)
