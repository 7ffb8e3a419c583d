"""Publishes a version: verifies it, moves the pointer that readers follow, and frees what is not needed any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kb_pipeline.control.kbs import versions
from kb_pipeline.control.runs.refreshes import RefreshStatus, end_refresh
from kb_pipeline.failpoints import failpoint
from kb_pipeline.interrupts import deferred_interrupts
from kb_pipeline.model import Record
from kb_pipeline.operations.account_warnings import cut_warnings, limit_warnings
from kb_pipeline.operations.housekeeping import tidy_kb
from kb_pipeline.operations.run_context import RunContext
from kb_pipeline.publish.candidate import verify_version


@dataclass(frozen=True, slots=True)
class Publication(Record):
    """What a refresh that came to publishing has done."""

    status: RefreshStatus
    """ready, ready_with_warnings or unchanged."""
    version: int | None
    """The live version's number; None if there is none."""


def publish_candidate(context: RunContext, warnings: Sequence[str], notes: Sequence[str] = ()) -> Publication:
    """Make the candidate that waits the live version, if there is one; ends the refresh.

    A refresh that finds the live version unchanged says its warnings too: what is missing is missing still.

    Args:
        context: the run.
        warnings: what an operator should know of it.
        notes: what else is to be said, before the warnings.

    Raises:
        LeaseLost: another run took over.
        GateFailed: the data is not what it was when it was checked.
    """
    context.check_lease()
    # Not by run: a run re-executed from the failed step publishes what the first one built and checked.
    pending = versions.pending_versions(context.db, context.key)
    number = next((each.number for each in pending if each.status == "candidate"), None)
    published = _publication(context, number, warnings)
    message = "\n".join([*notes, *warnings]) or None
    if number is not None:
        _move_pointer(context, number, "candidate", published.status, message)
    context.end(published.status, published.version, message)
    return published


def publish_held(context: RunContext, number: int) -> None:
    """Make a held version live on behalf of the settings' actor; ends the refresh.

    Raises:
        LeaseLost: another run took over.
        GateFailed: the data is not what it was when it was checked.
    """
    account = versions.get_manifest(context.db, context.key, number).account
    warnings = [*limit_warnings(context.key, account, {}), *cut_warnings(context.key, account)] if account else []
    status: RefreshStatus = "ready_with_warnings" if warnings else "ready"
    message = "\n".join(["approved", *warnings])
    _move_pointer(context, number, "held", status, message, context.settings.actor)
    context.end(status, number, message)


def _publication(context: RunContext, number: int | None, warnings: Sequence[str]) -> Publication:
    if number is not None:
        return Publication("ready_with_warnings" if warnings else "ready", number)
    live = context.live_manifest()
    return Publication("unchanged", live.version if live else None)


def _move_pointer(
    context: RunContext,
    number: int,
    expected: Literal["candidate", "held"],
    status: RefreshStatus,
    message: str | None,
    actor: str | None = None,
) -> None:
    verify_version(context.store, versions.get_manifest(context.db, context.key, number))
    failpoint("publish.before")
    with deferred_interrupts():  # once readers see the version, the refresh is ready, whatever comes
        context.publish_version(number, expected, actor)
        failpoint("publish.after")
        end_refresh(context.db, context.key, context.run_id, status, number, message)
    tidy_kb(
        context.store,
        context.db,
        context.lease,
        context.spec.retention.versions,
        context.spec.embedding.model,
    )
    failpoint("tidy.after")
