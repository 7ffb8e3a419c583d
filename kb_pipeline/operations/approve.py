"""Publishes a version that a check held, after a person has approved it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Literal

from kb_pipeline.control.coordination.leases import hold_lease, release_lease
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.flags.provider import read_flags
from kb_pipeline.control.kbs.catalog import get_kb
from kb_pipeline.control.kbs.versions import status_of
from kb_pipeline.control.runs.refreshes import begin_refresh, end_refresh
from kb_pipeline.errors import UsageError
from kb_pipeline.model import KbKey, Record
from kb_pipeline.operations.publish import publish_held
from kb_pipeline.operations.run_context import RunContext
from kb_pipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class Approval(Record):
    """An approved version, which is live now."""

    kb: KbKey
    version: int
    status: Literal["published"] = "published"


def approve_version(settings: Settings, db: Database, key: KbKey, number: int) -> Approval:
    """Publish a version that a check held; its integrity is verified again.

    Raises:
        UnknownKb, UnknownVersion: there is no such KB or version.
        UsageError: the version does not wait for approval.
        LeaseHeld: a run writes the KB.
        GateFailed: its data is not what it was when it was built.
    """
    spec = get_kb(db, key).read_spec(settings)
    status = status_of(db, key, number)
    if status != "held":
        raise UsageError(f"{key}: version {number} is {status}; only held versions wait for approval")
    owner = f"approve-{uuid.uuid4().hex[:12]}"
    with hold_lease(db, key, owner) as lease:
        begin_refresh(db, key, owner, lambda: read_flags(db, key))
        try:
            publish_held(RunContext(settings, db, lease, owner, spec), number)
        except BaseException as error:
            end_refresh(db, key, owner, "failed", message=str(error))
            raise
        release_lease(db, lease)
    return Approval(key, number)
