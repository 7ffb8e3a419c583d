"""`kb backup` and `kb restore`: what they print."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kb_pipeline.cli.output import out, print_json
from kb_pipeline.settings import Settings, load_settings


def settings_of(home: Path | None) -> Settings:
    """Of this environment, with another home if one is named."""
    if home is not None:
        os.environ["KB_HOME"] = str(home)
    return load_settings()


def print_outcome(outcome: Mapping[str, Any], *, as_json: bool) -> None:
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
