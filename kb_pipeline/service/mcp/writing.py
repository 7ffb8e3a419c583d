"""The tools that change something: they are seen only by callers who may do it."""

from __future__ import annotations

from typing import Any

from kb_pipeline.installation import Installation
from kb_pipeline.service.mcp.results import Requested
from kb_pipeline.service.mcp.tools import Arguments, KbName, Tool, kb_named
from kb_pipeline.service.names import kb_id


class RefreshKb(Arguments):
    """What refresh_kb takes."""

    kb: KbName


def refresh_kb(home: Installation, asked: RefreshKb) -> Requested:
    """Answer refresh_kb: ask for a refresh, which the daemon starts in the tenant's turn."""
    kb = kb_named(home, asked.kb)
    made = kb.request_refresh()
    return Requested(kb=kb_id(kb.key), request=made.id, requested_at=made.requested_at, run_id=made.run_id)


WRITING: tuple[Tool[Any], ...] = (
    Tool(
        "refresh_kb", "Refresh a knowledge base",
        "Ask for a refresh of a knowledge base: what changed at its sources is fetched and, if it passes the checks, "
        "published as a new version. Returns at once; asking again while it waits changes nothing.",
        "build", RefreshKb, Requested, refresh_kb, changes=True,
    ),
)  # fmt: skip
