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


class RetryFailures(Arguments):
    """What retry_failures takes."""

    kb: KbName


def refresh_kb(home: Installation, asked: RefreshKb) -> Requested:
    """Answer refresh_kb: ask for a refresh, which the daemon starts in the tenant's turn."""
    return _start(home, asked.kb, retry=False)


def retry_failures(home: Installation, asked: RetryFailures) -> Requested:
    """Answer retry_failures: ask for a refresh that requests again what failed."""
    return _start(home, asked.kb, retry=True)


def _start(home: Installation, name: str, *, retry: bool) -> Requested:
    kb = kb_named(home, name)
    job, _ = kb.start_job(retry=retry)
    return Requested(kb=kb_id(kb.key), job=job)


WRITING: tuple[Tool[Any], ...] = (
    Tool(
        "refresh_kb", "Refresh a knowledge base",
        "Ask for a refresh of a knowledge base: what changed at its sources is fetched and, if it passes the checks, "
        "published as a new version. Returns at once with the id of a job, which job_status follows; asked for again "
        "while it waits, it is the same job.",
        "build", RefreshKb, Requested, refresh_kb, changes=True,
    ),
    Tool(
        "retry_failures", "Retry what failed",
        "Ask for a refresh of a knowledge base that also requests again what failed or was refused, however often "
        "and recently. Returns at once with the id of a job, which job_status follows.",
        "build", RetryFailures, Requested, retry_failures, changes=True,
    ),
)  # fmt: skip
