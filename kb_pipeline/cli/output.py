"""Prints JSON, refreshes and what they left out on stdout; warnings and logs on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from kb_pipeline.account import CATEGORIES
from kb_pipeline.cli.rows import Columns, print_rows, print_table
from kb_pipeline.cli.terminal import err, out, printable
from kb_pipeline.units import from_now, span

if TYPE_CHECKING:
    from kb_pipeline.account import Account
    from kb_pipeline.control.runs.failures import FailureRecord

_BY = {
    "file": "by the file", "site": "by the site", "limits": "by limits", "request": "by request", "failed": "failed",
    "not_asked": "not asked yet",
}  # fmt: skip
_FAILURE_COLUMNS = (
    "id", "source", "stage", "reason", "key", "message", "recoverable", "attempts", "first_seen", "last_seen",
)  # fmt: skip


def print_json(value: object) -> None:
    """Print a JSON value on one line."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")


def print_failures(rows: Iterable[FailureRecord], chosen: str | None = None, limit: int | None = None) -> None:
    """Print failures: for people grouped by reason, a message that a whole group shares once; else a line each."""
    ordered = sorted(rows, key=lambda row: (row.stage, row.reason, row.key))
    if chosen is not None or not sys.stdout.isatty():
        columns: Columns[FailureRecord] = {name: attrgetter(name) for name in _FAILURE_COLUMNS}
        print_rows(ordered, columns, _FAILURE_COLUMNS, chosen=chosen, limit=limit)
        return
    for (stage, reason), group in groupby(ordered[:limit], key=lambda row: (row.stage, row.reason)):
        failed = list(group)
        shared = failed[0].message if len({row.message for row in failed}) == 1 else ""
        hint = ", recoverable" if failed[0].recoverable else ""
        out.print(printable(f"{stage}: {reason} ({len(failed)}{hint}) {shared}"), markup=False, style="bold")
        for row in failed:
            times = f"{row.attempts} time{'s' * (row.attempts != 1)}"
            seen = f"{times}, first {from_now(row.first_seen)}, last {from_now(row.last_seen)}"
            message = "" if shared else f": {row.message}"
            out.print(printable(f"  {row.id}  {row.key}  {seen}{message}"), markup=False)


def account_fields(account: Account) -> dict[str, str]:
    """Return the sums of an account by name: what is there, and what is not by whose will."""
    parts = {"documents": account.documents, "aliases": account.aliases, "duplicates": account.duplicates}
    told = ", ".join(f"{count:,} {noun}" for noun, count in parts.items() if count or noun == "documents")
    fields = {"known": f"{'at least ' if account.at_least else ''}{account.known:,} keys: {told}"}
    for category in CATEGORIES:
        if reasons := account.missing(category):
            each = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common())
            fields[_BY[category]] = f"{reasons.total():,} ({each})"
    if account.not_recorded:
        fields["not recorded"] = f"{account.not_recorded:,}"
    return fields


def warn(message: str) -> None:
    """Print a warning on stderr."""
    err.print(f"[yellow]warning:[/] {escape(message)}")


def print_stages(stages: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the counts of each stage of a refresh, and the reasons for which items were left out."""
    columns = ["in", "out", "unchanged", "rejected", "failed", "deleted"]
    if sys.stdout.isatty():
        rows = [[name, *(r.get(c, 0) for c in columns), span(r.get("seconds", 0))] for name, r in stages.items()]
        print_table(["stage", *columns, "time"], rows)
    for name, report in stages.items():
        reasons = {**report.get("rejected_by_reason", {}), **report.get("failed_by_reason", {})}
        told = ", ".join(f"{reason} {count:,}" for reason, count in reasons.items())
        if not sys.stdout.isatty():
            counts = [f"{column} {report.get(column, 0)}" for column in columns]
            cells = [name, *counts, f"seconds {report.get('seconds', 0):g}", told]
            sys.stdout.write("\t".join(cells).rstrip("\t") + "\n")
        elif told:
            out.print(f"  {name}: {told}", markup=False)
