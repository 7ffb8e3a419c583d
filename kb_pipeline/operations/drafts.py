"""Writes, checks and finishes drafts of KBs: what is finished is what applying the file would have stored."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from kb_pipeline.control.coordination.idempotency import answer_once
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs.catalog import last_token, store_within
from kb_pipeline.control.kbs.drafts import DraftRecord, get_draft, lock_draft, put_body
from kb_pipeline.control.runs.requests import request_within
from kb_pipeline.errors import InvalidSpec, UnknownDraft, UsageError
from kb_pipeline.failpoints import failpoint
from kb_pipeline.model import JsonObject, KbKey, Record, RequestOnce
from kb_pipeline.operations.apply import KbText, check_files, plan_files
from kb_pipeline.operations.authorization import Caller
from kb_pipeline.operations.merge_patch import merge_patch
from kb_pipeline.settings import Settings

MAX_BYTES = 1 << 20
"""Of a draft: as of a KB file."""
_NAME = "the draft"


@dataclass(frozen=True, slots=True)
class DraftProblem(Record):
    """One thing that is wrong with a draft."""

    pointer: str
    """JSON pointer to the field."""
    detail: str


@dataclass(frozen=True, slots=True)
class DraftVerdict(Record):
    """Whether a draft can be finished as it is."""

    valid: bool
    problems: tuple[DraftProblem, ...]
    warnings: tuple[str, ...]
    effects: tuple[str, ...]
    """What the first refresh will do, a sentence each."""


@dataclass(frozen=True, slots=True)
class FinishedDraft(Record):
    """A KB that a draft became, and the job of its first refresh."""

    kb: KbKey
    job_id: str
    estimated_completion: datetime | None
    """By the newest estimate; None without one."""
    is_replayed: bool = False
    """Whether an earlier request with the same key did it."""


def checked_body(tenant: str, body: Mapping[str, object]) -> JsonObject:
    """Return what a draft may hold; raise UsageError for a tenant that is another one, and for far too much."""
    if body.get("tenant", tenant) != tenant:
        raise UsageError(f"tenant is {tenant} or left out")
    if len(json.dumps(body)) > MAX_BYTES:
        raise UsageError("a draft is smaller than 1 MiB")
    return {"tenant": tenant, **{name: value for name, value in body.items() if name != "tenant"}}


def patch_draft(db: Database, tenant: str, draft_id: str, patch: Mapping[str, object]) -> DraftRecord:
    """Change fields of a draft by a JSON merge patch; raise UnknownDraft or UsageError."""
    with db.write(tenant) as session:
        row = lock_draft(session, tenant, draft_id)
        return put_body(session, row, checked_body(tenant, merge_patch(row.body, patch)))


def put_section(db: Database, tenant: str, draft_id: str, name: str, section: Mapping[str, object]) -> DraftRecord:
    """Write one section of a draft whole; raise UnknownDraft or UsageError."""
    with db.write(tenant) as session:
        row = lock_draft(session, tenant, draft_id)
        return put_body(session, row, checked_body(tenant, {**row.body, name: dict(section)}))


def put_source(db: Database, tenant: str, draft_id: str, source: Mapping[str, object]) -> DraftRecord:
    """Add a source to a draft, in the place of the one of that name if there is one.

    Raises:
        UnknownDraft: there is no such draft.
        UsageError: the source has no name.
    """
    name = source.get("name")
    if not isinstance(name, str) or not name:
        raise UsageError("a source has a name")
    with db.write(tenant) as session:
        row = lock_draft(session, tenant, draft_id)
        body = copy.deepcopy(row.body)
        sources = _sources(body)
        names = [each.get("name") if isinstance(each, Mapping) else None for each in sources]
        if name in names:
            sources[names.index(name)] = dict(source)
        else:
            sources.append(dict(source))
        return put_body(session, row, checked_body(tenant, body))


def remove_source(db: Database, tenant: str, draft_id: str, name: str) -> DraftRecord:
    """Remove a source from a draft; raise UnknownDraft, or UsageError if it has none of that name."""
    with db.write(tenant) as session:
        row = lock_draft(session, tenant, draft_id)
        body = copy.deepcopy(row.body)
        sources = _sources(body)
        left = [each for each in sources if not (isinstance(each, Mapping) and each.get("name") == name)]
        if len(left) == len(sources):
            raise UsageError(f"the draft has no source {name[:100]!r}")
        body["sources"] = left
        return put_body(session, row, body)


def text_of(draft: DraftRecord) -> KbText:
    """Return the KB file that a draft is: JSON, which is YAML."""
    return KbText(json.dumps(draft.body, ensure_ascii=False, indent=1), _NAME)


def validate_draft(settings: Settings, db: Database, caller: Caller, draft: DraftRecord) -> DraftVerdict:
    """Say what is wrong with a draft, or what finishing it would do; nothing changes."""
    try:
        (planned,) = plan_files(settings, db, caller, [text_of(draft)])
    except InvalidSpec as error:
        problems = tuple(
            DraftProblem(_pointer(each.field), str(replace(each, position=None))) for each in error.problems
        )
        return DraftVerdict(False, problems, (), ())
    except UsageError as error:
        return DraftVerdict(False, (DraftProblem("", str(error)),), (), ())
    return DraftVerdict(True, (), planned.warnings, planned.effects)


def finalize_draft(
    settings: Settings, db: Database, caller: Caller, tenant: str, draft_id: str, once: RequestOnce | None
) -> FinishedDraft:
    """Make a draft a KB and ask for its first refresh, in one transaction in which the draft goes.

    Dagster is not asked for anything: its sensor adds the partition and starts the run.

    Args:
        settings: of the installation.
        db: its control plane.
        caller: who finishes it.
        tenant: whose.
        draft_id: the draft.
        once: what tells this request from others, if its client may send it again.

    Raises:
        UnknownDraft: there is no such draft.
        InvalidSpec, UnknownModel, QuotaExceeded, KeyRetired, TenantInactive: nothing was changed.
        KeyReused: another request had the same key.
    """
    try:
        draft = get_draft(db, tenant, draft_id)
    except UnknownDraft:
        if once is None:
            raise
        draft = None
    file = None
    if draft is not None:
        (file,) = check_files(settings, db, caller, [text_of(draft)])
    token = last_token(db, file.spec.key) if file is not None else 0

    with db.write(tenant) as session:

        def finish() -> JsonObject:
            row = lock_draft(session, tenant, draft_id)
            if draft is None or file is None or row.body != draft.body:
                raise UsageError("the draft was changed meanwhile; look at it and finish it again")
            failpoint("draft.checked")
            store_within(session, file.spec, file.yaml, caller.actor, token)
            session.flush()
            failpoint("draft.stored")
            job = request_within(session, file.spec.key, (), caller.actor)
            session.flush()
            failpoint("draft.requested")
            ends_at = datetime.now(UTC) + timedelta(minutes=row.minutes) if row.minutes is not None else None
            session.delete(row)
            session.flush()
            failpoint("draft.deleted")
            return {
                "kb": str(file.spec.key), "job_id": job.id,
                "estimated_completion": ends_at.isoformat() if ends_at is not None else None,
            }  # fmt: skip

        answer = answer_once(session, tenant, once, finish)
        session.flush()
        failpoint("draft.answered")
    failpoint("draft.finished")
    ends_at = answer.body["estimated_completion"]
    return FinishedDraft(
        KbKey.parse(answer.body["kb"]),
        answer.body["job_id"],
        datetime.fromisoformat(ends_at) if ends_at else None,
        answer.is_replayed,
    )


def _sources(body: JsonObject) -> list[Any]:
    sources = body.setdefault("sources", [])
    if not isinstance(sources, list):
        raise UsageError("sources of the draft is no list; change it first")
    return sources


def _pointer(field: str) -> str:
    """Return the JSON pointer of a field that an error names, as in `sources.0.max_pages`; "" for the whole."""
    if field.startswith("("):
        return ""
    parts = field.split(", ")[0].split(".")
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)
