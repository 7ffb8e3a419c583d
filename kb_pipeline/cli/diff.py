"""`kb diff`: what became of one version's documents and chunks in another, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape

from kb_pipeline.cli.output import out, print_table, printable

_KEYS = 20


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
