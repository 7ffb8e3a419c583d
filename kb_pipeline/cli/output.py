"""Prints tables for people, JSON for programs, warnings and logs on stderr."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kb_pipeline.account import CATEGORIES

if TYPE_CHECKING:
    from kb_pipeline.account import Account
    from kb_pipeline.control.runs.failures import FailureRecord

_BY = {
    "file": "by the file", "site": "by the site", "limits": "by limits", "request": "by request", "failed": "failed",
    "not_asked": "not asked yet",
}  # fmt: skip
_MINUTE = "%Y-%m-%dT%H:%M"
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False)


def print_json(value: object) -> None:
    """Print a JSON value on one line."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """Print a table for people."""
    table = Table(*columns, title=title, title_justify="left", header_style="bold")
    for row in rows:
        table.add_row(*("" if cell is None else escape(printable(str(cell))) for cell in row))
    out.print(table)


def print_failures(rows: Iterable[FailureRecord]) -> None:
    """Print failures for people, grouped by reason; a message that a whole group shares is shown once."""
    ordered = sorted(rows, key=lambda row: (row.stage, row.reason, row.key))
    for (stage, reason), group in groupby(ordered, key=lambda row: (row.stage, row.reason)):
        failed = list(group)
        shared = failed[0].message if len({row.message for row in failed}) == 1 else ""
        hint = ", recoverable" if failed[0].recoverable else ""
        out.print(printable(f"{stage}: {reason} ({len(failed)}{hint}) {shared}"), markup=False, style="bold")
        for row in failed:
            times = f"{row.attempts} time{'s' * (row.attempts != 1)}"
            seen = f"{times}, {row.first_seen:{_MINUTE}} to {row.last_seen:{_MINUTE}}"
            message = "" if shared else f": {row.message}"
            out.print(printable(f"  {row.id}  {row.key}  {seen}{message}"), markup=False)


def print_account(account: Account) -> None:
    """Print the sums of an account: what is there, and what is not by whose will."""
    parts = {"documents": account.documents, "aliases": account.aliases, "duplicates": account.duplicates}
    told = ", ".join(f"{count} {noun}" for noun, count in parts.items() if count or noun == "documents")
    out.print(f"{'known':<13} {'at least ' if account.at_least else ''}{account.known} keys: {told}")
    for category in CATEGORIES:
        if reasons := account.missing(category):
            each = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
            out.print(f"{_BY[category]:<13} {reasons.total()} ({each})", markup=False)
    if account.not_recorded:
        out.print(f"{'not recorded':<13} {account.not_recorded}")


def printable(text: str) -> str:
    """Replace control characters, so that a page's title cannot drive the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def warn(message: str) -> None:
    """Print a warning on stderr."""
    err.print(f"[yellow]warning:[/] {escape(message)}")


def print_stages(stages: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the counts of each stage of a refresh, and the reasons for which items were left out."""
    columns = ["in", "out", "unchanged", "rejected", "failed", "deleted", "seconds"]
    rows = [[name, *(f"{report.get(c, 0):g}" for c in columns)] for name, report in stages.items()]
    print_table(["stage", *columns], rows)
    for name, report in stages.items():
        reasons = {**report.get("rejected_by_reason", {}), **report.get("failed_by_reason", {})}
        if reasons:
            out.print(f"  {name}: " + ", ".join(f"{reason} {count}" for reason, count in reasons.items()))


class JsonLines(logging.Formatter):
    """Formats each log record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return an object of time, level, logger and message."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat()
        fields = {
            "time": when,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        return json.dumps(fields, ensure_ascii=False)


def configure_logging(log_format: str) -> None:
    """Send the log of this package to stderr, as `text` or `json` lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if log_format == "json" else logging.Formatter("%(levelname)s %(message)s"))
    logger = logging.getLogger("kb_pipeline")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
