"""The control plane's tables, one set for SQLite and Postgres."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Float, Index, Integer, String, Text, TypeDecorator
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_SLUG = String(63)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC timestamp on every database; SQLite would drop the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store in UTC."""
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Declares which column types the annotations stand for."""

    type_annotation_map = {datetime: UtcDateTime, dict[str, Any]: JSON}  # noqa: RUF012 - SQLAlchemy's own form


class OfTenant:
    """Every row belongs to one tenant: the first column of every key."""

    tenant: Mapped[str] = mapped_column(_SLUG, primary_key=True, sort_order=-2)


class OfKb(OfTenant):
    """Every row belongs to one KB of one tenant: the first two columns of every key."""

    kb: Mapped[str] = mapped_column(_SLUG, primary_key=True, sort_order=-1)


class Plan(Base):
    """What the tenants of a plan may use, as its file says."""

    __tablename__ = "plans"
    name: Mapped[str] = mapped_column(_SLUG, primary_key=True)
    limits: Mapped[dict[str, Any]]
    prices: Mapped[dict[str, Any]]
    """Of a million tokens, by model."""
    updated_at: Mapped[datetime]


class Tenant(OfTenant, Base):
    """A customer of this installation."""

    __tablename__ = "tenants"
    plan: Mapped[str] = mapped_column(_SLUG)
    status: Mapped[str] = mapped_column(String(20))
    """active, suspended, deleting (at a time that is to come) or removing (a part is gone already)."""
    reason: Mapped[str] = mapped_column(Text, default="")
    """Why it is not active, as whoever decided it says."""
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    delete_at: Mapped[datetime | None]
    """When a tenant that is `deleting` is removed for good."""


class RetiredKey(Base):
    """A tenant or KB that was deleted: its key is not given to another one silently."""

    __tablename__ = "retired_keys"
    key: Mapped[str] = mapped_column(String(127), primary_key=True)
    """`tenant` or `tenant/kb`."""
    receipt: Mapped[dict[str, Any]]
    """What was removed; its status is `unfinished` until nothing is left."""
    retired_at: Mapped[datetime]


class Flag(Base):
    """What the operator set of a flag for everybody; its variants and its own default are declared in known_flags."""

    __tablename__ = "flags"
    name: Mapped[str] = mapped_column(_SLUG, primary_key=True)
    variant: Mapped[str | None] = mapped_column(_SLUG)
    """The default instead of the declared one."""
    rollout: Mapped[list[Any]] = mapped_column(JSON)
    """Pairs of variant and percent, in order."""
    updated_at: Mapped[datetime]


class FlagOverride(OfTenant, Base):
    """The variant of a flag that one KB of a tenant has, or all of them that have none of their own."""

    __tablename__ = "flag_overrides"
    flag: Mapped[str] = mapped_column(_SLUG, primary_key=True)
    kb: Mapped[str] = mapped_column(_SLUG, primary_key=True)
    """Empty for the whole tenant."""
    variant: Mapped[str] = mapped_column(_SLUG)
    updated_at: Mapped[datetime]


class FlagChanges(Base):
    """One row, whose number grows with every change of a flag: how other processes notice."""

    __tablename__ = "flag_changes"
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(Integer)


class AuditEntry(OfTenant, Base):
    """One change by somebody; each entry's hash covers the one before it. Without a tenant: of the installation."""

    __tablename__ = "audit"
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(200))
    action: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(Text)
    before: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]
    hash: Mapped[str] = mapped_column(String(64))
    """SHA-256, hexadecimal."""


class ApiKey(OfTenant, Base):
    """What a program shows to act for a tenant; of the key itself only what it takes to recognise it."""

    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    """Public: part of the key, and how people name it."""
    label: Mapped[str] = mapped_column(String(100))
    hash: Mapped[str] = mapped_column(String(200))
    """Argon2id of the secret part, with its parameters and salt."""
    scopes: Mapped[str] = mapped_column(String(64))
    """Comma-separated: read, build, manage, admin."""
    kbs: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    """The only KBs that it may see, by name; NULL for all of the tenant's."""
    requests_per_minute: Mapped[int | None] = mapped_column(Integer)
    """Its own rate, beside that of its tenant's plan; NULL for none."""
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class OperatorKey(Base):
    """What a program shows to do what the operator may; of the key itself only what it takes to recognise it."""

    __tablename__ = "operator_keys"
    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    """Public: part of the key, and how people name it."""
    label: Mapped[str] = mapped_column(String(100))
    hash: Mapped[str] = mapped_column(String(200))
    """Argon2id of the secret part, with its parameters and salt."""
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(200))
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class Secret(OfTenant, Base):
    """A value that the tenant's KB files name and nobody may read here."""

    __tablename__ = "secrets"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    token: Mapped[str] = mapped_column(Text)
    """Encrypted, with the tenant and the name that it is for."""
    updated_at: Mapped[datetime]
    updated_by: Mapped[str] = mapped_column(String(200))


class Kb(OfKb, Base):
    """A KB as applied, and the pointer to its live version."""

    __tablename__ = "kbs"
    spec: Mapped[str] = mapped_column(Text)
    revision: Mapped[int] = mapped_column(Integer, default=1)
    cron: Mapped[str | None] = mapped_column(String(200))
    timezone: Mapped[str] = mapped_column(String(64), default="UTC")
    live_version: Mapped[int | None] = mapped_column(Integer)
    snoozed_until: Mapped[datetime | None]
    """No sensor starts a refresh before: a quota is used up until then."""
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class SpecRevision(OfKb, Base):
    """Every spec a KB ever had."""

    __tablename__ = "spec_revisions"
    revision: Mapped[int] = mapped_column(Integer, primary_key=True)
    spec: Mapped[str] = mapped_column(Text)
    applied_at: Mapped[datetime]


class Version(OfKb, Base):
    """One numbered state of a KB."""

    __tablename__ = "versions"
    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    status: Mapped[str] = mapped_column(String(20))
    """building, candidate, held, published, rolled_back, failed, superseded or pruned."""
    run_id: Mapped[str] = mapped_column(String(64))
    manifest: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    published_at: Mapped[datetime | None]


IS_LIVE = (Version.tenant == Kb.tenant) & (Version.kb == Kb.kb) & (Version.version == Kb.live_version)
"""Joins KBs with their live versions."""


class Rollback(OfKb, Base):
    """One move of the live pointer back (or forth) to a version that had been published before."""

    __tablename__ = "rollbacks"
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    from_version: Mapped[int] = mapped_column(Integer)
    to_version: Mapped[int] = mapped_column(Integer)
    at: Mapped[datetime]


class Erasure(OfKb, Base):
    """A document that must not come back, and the receipt of its removal."""

    __tablename__ = "erasures"
    document_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    receipt: Mapped[dict[str, Any]]
    erased_at: Mapped[datetime]
    lifted_at: Mapped[datetime | None]
    """Since when it may be fetched again; the receipt stays."""


class Lease(OfKb, Base):
    """Who writes a KB; the token grows with every new owner, so that a late writer is told apart."""

    __tablename__ = "leases"
    owner: Mapped[str] = mapped_column(String(64))
    token: Mapped[int] = mapped_column(Integer)
    expires_at: Mapped[float] = mapped_column(Float)
    """Unix time."""


class Refresh(OfKb, Base):
    """One run over a KB and how it ended."""

    __tablename__ = "refreshes"
    run_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    status: Mapped[str] = mapped_column(String(20))
    """running, ready, ready_with_warnings, unchanged, held, failed, snoozed (until a quota renews), or partial (a run
    that does not publish)."""
    version: Mapped[int | None] = mapped_column(Integer)
    message: Mapped[str | None] = mapped_column(Text)
    stages: Mapped[dict[str, Any]]
    """Stage name to its report."""
    flags: Mapped[dict[str, Any] | None]
    """The value of every flag when the run began, which all of it goes by."""
    stage: Mapped[str | None] = mapped_column(String(20))
    done: Mapped[int] = mapped_column(Integer, default=0)
    total: Mapped[int | None] = mapped_column(Integer)
    stage_started_at: Mapped[datetime | None]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class Job(OfKb, Base):
    """A refresh that was asked for, from the request to its end; it keeps its id through every run that it takes."""

    __tablename__ = "kb_jobs"  # Dagster has a table "jobs", maybe in the same database
    id: Mapped[str] = mapped_column(String(64), primary_key=True, index=True)
    """Of the request; of the first run where nobody asked: a schedule's, or one of the command line."""
    options: Mapped[str] = mapped_column("wishes", String(64), default="")
    """Comma-separated: force, retry."""
    requested_by: Mapped[str] = mapped_column(String(200))
    requested_at: Mapped[datetime]
    run_id: Mapped[str | None] = mapped_column(String(64), index=True)
    """The newest run that it became; none while a sensor is to start one."""
    traceparent: Mapped[str | None] = mapped_column(String(55))
    """The W3C trace that the request was part of; none where it did not come over HTTP."""
    cancel_requested_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    """None also while a lost run is about to be retried, though its refresh has failed."""
    percent: Mapped[float] = mapped_column(Float, default=0.0)
    """How far it is, 0 to 100; never less than before."""
    last_event: Mapped[int] = mapped_column(Integer, default=0)
    """The number of its newest event."""
    __table_args__ = (Index("ix_kb_jobs_age", "tenant", "requested_at", "id"),)


class JobEvent(OfKb, Base):
    """One thing that happened in a job; numbered from 1 without a gap, in the transaction in which it happened."""

    __tablename__ = "kb_job_events"
    job_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    type: Mapped[str] = mapped_column(String(20))
    body: Mapped[dict[str, Any]]


class IdempotentRequest(OfTenant, Base):
    """A request that was done, by the key that its client gave it, and what it was answered with."""

    __tablename__ = "idempotent_requests"
    caller: Mapped[str] = mapped_column(String(200), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    """SHA-256, hexadecimal, of what was asked for."""
    body: Mapped[dict[str, Any]]
    expires_at: Mapped[datetime]
    """From then on the key may be used again."""


class KbDraft(OfTenant, Base):
    """A KB file that somebody is writing piece by piece."""

    __tablename__ = "kb_drafts"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    body: Mapped[dict[str, Any]]
    created_by: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    minutes: Mapped[float | None] = mapped_column(Float)
    """How long a first refresh takes by the newest estimate."""


class Heartbeat(Base):
    """The process that executes a run, and its last sign of life; see control.heartbeats."""

    __tablename__ = "heartbeats"
    run_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    machine: Mapped[str] = mapped_column(String(120))
    process: Mapped[str] = mapped_column(String(60))
    beat_at: Mapped[float] = mapped_column(Float)
    """Unix time by the database's clock."""


DELETED_KBS = "(deleted)"
"""In place of a KB's name, and no possible one: what the deleted KBs of a tenant have used together."""


class Usage(OfKb, Base):
    """What one unit of work used, once however often it was tried; control.usage says what the units are."""

    __tablename__ = "usage"
    unit: Mapped[str] = mapped_column(String(200), primary_key=True)
    run_id: Mapped[str] = mapped_column(String(64))
    day: Mapped[str] = mapped_column(String(10), index=True)
    """UTC, as in 2026-11-25."""
    operation: Mapped[str] = mapped_column(String(20))
    """The stage."""
    model: Mapped[str] = mapped_column(String(500), default="")
    pages: Mapped[int] = mapped_column(BigInteger, default=0)
    bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    seconds: Mapped[float] = mapped_column(Float, default=0.0)
    cost_micros: Mapped[int] = mapped_column(BigInteger, default=0)
    """Millionths of the currency of the plan's prices, by the price of its day."""
    pending: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """While the work is under way: how to find out whether it was done. Such a row counts for nothing yet."""


class Bucket(OfKb, Base):
    """What a KB has taken of one of its tenant's daily quotas; the tenant has taken the sum over its KBs."""

    __tablename__ = "buckets"
    key: Mapped[str] = mapped_column(String(40), primary_key=True)
    """The name of the limit."""
    day: Mapped[str] = mapped_column(String(10))
    """By the database's clock, UTC. What was taken on an earlier day is not taken any more."""
    taken: Mapped[int] = mapped_column(BigInteger, default=0)


class RateBucket(OfTenant, Base):
    """A token bucket of requests: of a tenant's callers together, or of one key; see control.metering.rate_limits."""

    __tablename__ = "rate_buckets"
    bucket: Mapped[str] = mapped_column(String(16), primary_key=True)
    """Empty for the tenant's, else the id of a key."""
    level: Mapped[float] = mapped_column(Float)
    """How many tokens are in it, as of `updated_at`."""
    updated_at: Mapped[float] = mapped_column(Float)
    """Unix time by the database's clock."""


class Failure(OfKb, Base):
    """What could not be turned into searchable text, at which stage and why."""

    __tablename__ = "failures"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    source: Mapped[str] = mapped_column(_SLUG)
    stage: Mapped[str] = mapped_column(String(20))
    key: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(String(64))
    message: Mapped[str] = mapped_column(Text)
    recoverable: Mapped[bool]
    attempts: Mapped[int] = mapped_column(Integer)
    first_seen: Mapped[datetime]
    last_seen: Mapped[datetime]


class HostState(Base):
    """What all runs of this installation know of a host; see host_scheduler.HostState. Times are Unix times."""

    __tablename__ = "host_clocks"
    host: Mapped[str] = mapped_column(String(255), primary_key=True)
    last_at: Mapped[float] = mapped_column(Float, default=0.0)
    holder: Mapped[str] = mapped_column(String(160), default="")
    held_until: Mapped[float] = mapped_column(Float, default=0.0)
    retry_at: Mapped[float] = mapped_column(Float, default=0.0)
    slowdown_s: Mapped[float] = mapped_column(Float, default=0.0)
    busy_in_a_row: Mapped[int] = mapped_column(Integer, default=0)
    latency_s: Mapped[float] = mapped_column(Float, default=0.0)
    usual_s: Mapped[float] = mapped_column(Float, default=0.0)
    answers: Mapped[int] = mapped_column(Integer, default=0)
    crawl_delay_s: Mapped[float] = mapped_column(Float, default=0.0)
    crawl_delay_until: Mapped[float] = mapped_column(Float, default=0.0)


class HostClient(Base):
    """A crawl that requests from a host; see host_scheduler.ClientState. Columns keep their first names."""

    __tablename__ = "host_guests"
    host: Mapped[str] = mapped_column(String(255), primary_key=True)
    client_id: Mapped[str] = mapped_column("guest", String(160), primary_key=True)
    """Run id and source."""
    tenant: Mapped[str] = mapped_column(_SLUG)
    delay_s: Mapped[float] = mapped_column(Float, default=0.0)
    waiting: Mapped[bool] = mapped_column("wants", default=False)
    unlimited_until: Mapped[float] = mapped_column("free_until", Float, default=0.0)
    last_slot_at: Mapped[float] = mapped_column("last_turn_at", Float, default=0.0)
    seen_until: Mapped[float] = mapped_column(Float, default=0.0)


SHARED: tuple[type[Base], ...] = (Plan, Flag, FlagChanges)
"""What belongs to no tenant and every tenant may read."""
