"""`kb replay`: whether a document's text and chunks come out again as they are stored, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kb_pipeline.cli.output import out, printable


def print_replay(result: Mapping[str, Any]) -> None:
    """What was compared, the verdict, and every difference."""
    chunks = result["chunks"]
    out.print(f"bytes     {_verdict(result['bytes_match'])} {result['raw_sha256']}")
    out.print(f"document  {_verdict(result['document_matches'])} {result['document_id']}")
    if result["duplicate_of"]:
        out.print(f"chunks    none: the same text is indexed as {result['duplicate_of']}")
    else:
        out.print(f"chunks    {chunks['matching']} match, {chunks['stored']} stored, {chunks['derived']} came out")
    for reason in result["differs"]:
        out.print(f"- {printable(reason)}", markup=False)
    out.print(f"version {result['version']}: {'matches' if result['matches'] else 'DOES NOT MATCH'}")


def _verdict(matches: bool) -> str:
    return "match " if matches else "DIFFER"
