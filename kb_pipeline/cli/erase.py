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
    if others := receipt["same_content_at"]:
        out.print("The same bytes or text are also stored under:", *others, sep="\n  ", markup=False)
