"""How `kb erase` shows a receipt to people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kb_pipeline.cli.output import out, print_table


def print_receipt(receipt: Mapping[str, Any]) -> None:
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
