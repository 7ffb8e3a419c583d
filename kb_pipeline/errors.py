"""Every error this project raises on purpose.

KbError
├── UsageError                the request is wrong: exit status 2
│   ├── InvalidSpec           a KB or plan file with unknown fields or impossible values
│   ├── InvalidKey            not a `tenant/kb` key
│   ├── InvalidSetting        an environment variable with an impossible value
│   ├── UnknownTenant         no such tenant
│   ├── TenantExists          there is a tenant of that name already
│   ├── KeyRetired            the key was that of a deleted tenant or KB
│   ├── RemovalBegun          a tenant or KB that is half removed already
│   ├── UnknownPlan           no such plan has been applied
│   ├── UnknownKb             no such KB has been applied
│   ├── UnknownApiKey         the tenant has no API key of that id
│   ├── UnknownOperatorKey    there is no operator key of that id
│   ├── UnknownSecret         the tenant has no secret of that name
│   ├── UnknownModel          no embedder of that name
│   │   └── ModelNeedsExtra   its packages come with an extra that is not installed
│   ├── DeviceUnavailable     a model cannot run on the device asked for
│   ├── UnknownDocument       no document of that key
│   ├── AmbiguousDocument     a part of a key or title that several documents have
│   ├── UnknownVersion        the KB has no version of that number
│   ├── UnknownRun            the KB has no run of that id
│   ├── UnknownJob            no job of that id
│   ├── UnknownDraft          no draft of that id, or it has expired
│   ├── KeyReused             another request had the same idempotency key
│   ├── SiteUnreachable       a site gives no page to begin with
│   ├── UnknownFlag           no flag of that name
│   ├── UnknownVariant        the flag has no variant of that name
│   ├── InvalidRollout        invalid percentages
│   ├── FlagNotSet            the flag to be cleared is not set there
│   ├── BrowserMissing        pages are to be rendered and there is no browser
│   └── NoLiveVersion         the KB has not been published yet
├── QuotaExceeded             a tenant has used up a limit of its plan
├── RateLimited               too many requests within a minute (transient)
├── TenantInactive            the tenant is suspended, or being deleted
├── FlagUnreadable            the variant of a flag that a KB has cannot be read (transient)
├── KeyRefused                an API key or token that is not valid, was revoked or has expired
├── IssuerAway                the keys that tokens of an issuer are signed with cannot be fetched (transient)
├── NotAllowed                an API key or token does not allow the request
├── SecretUnreadable          a secret was encrypted with a key that is not here
├── ModelUnavailable          the model that answers cannot be reached, or fails (transient)
├── AnswerCancelled           whoever asked has gone
├── LeaseHeld                 another run writes this KB (transient)
├── LeaseLost                 this run lost its lease; its work must not be published
├── JobWithdrawn              a run whose job was cancelled before it began
├── SourceFailed              a source gave nothing at all, so nothing may be concluded from it (transient)
├── ChildCrashed              a worker process died (transient)
├── GateFailed                a candidate version did not pass its checks
├── OutOfTenant               code used a tenant's session for another tenant's data: a bug of kb_pipeline
├── SchemaTooNew              a newer release has migrated the control plane
├── DamagedBackup             a backup of which a file is missing or not what was written
├── DamagedStore              a stored table or segment cannot be read
├── InvalidManifest           the manifest of a version is not what one must be
├── Unhealthy                something that kb_pipeline depends on is not as it must be
└── InvalidVector             an embedder gave a vector that is not finite, unit-norm or of the right dimension

`transient` tells whether trying the same again later can help; it is decided where the error is raised.
"""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from kb_pipeline.allowance import Allowance

_SHOWN_KEYS = 5
_EXCERPT = 100
"""Characters of a line that an error quotes."""


class KbError(Exception):
    """Root of every error raised on purpose."""

    transient = False


def is_database_error(error: Exception) -> bool:
    """Return whether the database is away, locked or damaged; nothing is imported to find out."""
    return any(each.__module__.startswith("sqlalchemy.exc") for each in type(error).__mro__)


class UsageError(KbError):
    """The request is wrong; nothing was changed."""


@dataclass(frozen=True)
class Position:
    """A place in a file that somebody wrote."""

    file: str
    line: int
    """From 1, as the column."""
    column: int
    text: str
    """The whole line."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"

    def excerpt(self) -> str:
        """Return the line, cut to what fits a screen, and below it a caret at the column."""
        start = max(0, self.column - 1 - _EXCERPT // 2)
        shown = "".join(c if c.isprintable() else " " for c in self.text[start : start + _EXCERPT])
        before = shown[: self.column - 1 - start]
        wide = sum(unicodedata.east_asian_width(c) in "WF" for c in before)
        return f"{shown}\n{' ' * (len(before) + wide)}^"


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a file: where, what was given, what is allowed, and what may have been meant."""

    field: str
    given: str
    allowed: str
    suggestion: str = ""
    position: Position | None = None

    def __str__(self) -> str:
        meant = f"{self.suggestion}{'' if self.suggestion.endswith('?') else ';'} " if self.suggestion else ""
        return f"{self.field}: got {self.given}; {meant}{self.allowed}"


class InvalidSpec(UsageError):
    """A KB file, or another of its kind, cannot be applied."""

    def __init__(self, file: str, problems: Sequence[Problem], kind: str = "KB") -> None:
        told = "\n".join(textwrap.indent(_told(problem), "  ") for problem in problems)
        super().__init__(f"{file}: not a valid {kind} file, nothing was applied\n{told}")
        self.file, self.problems = file, tuple(problems)


def _told(problem: Problem) -> str:
    if problem.position is None:
        return str(problem)
    return f"{problem.position}: {problem}\n{textwrap.indent(problem.position.excerpt(), '    ')}"


class InvalidKey(UsageError):
    """A string that is not a `tenant/kb` key."""

    def __init__(self, given: str) -> None:
        super().__init__(
            f"{given!r} is not a KB key: write tenant/kb, each part 1 to 63 of a-z, 0-9 and '-', "
            "not starting with '-', as in acme/handbook"
        )
        self.given = given


class InvalidSetting(UsageError):
    """An environment variable has an impossible value."""

    def __init__(self, name: str, allowed: str) -> None:
        super().__init__(f"{name}: {allowed}")
        self.name = name


class UnknownTenant(UsageError):
    """This installation has no such tenant."""

    def __init__(self, tenant: str) -> None:
        super().__init__(f"{tenant}: no such tenant here; create it with: kb tenant create {tenant}")
        self.tenant = tenant


class TenantExists(UsageError):
    """There is a tenant of that name already."""

    def __init__(self, tenant: str) -> None:
        super().__init__(f"{tenant}: there is such a tenant already; look at it with: kb tenant show {tenant}")
        self.tenant = tenant


class KeyRetired(UsageError):
    """The key belonged to a deleted tenant or KB: those who still use it would get other data."""

    def __init__(self, key: str, retired_at: datetime) -> None:
        super().__init__(
            f"{key}: was deleted on {retired_at:%Y-%m-%d}, and its key may still be in use somewhere; choose another, "
            "or take it knowingly with --reuse-key"
        )
        self.key, self.retired_at = key, retired_at


class RemovalBegun(UsageError):
    """A tenant or KB is partly deleted: it can be neither restored nor created again until the rest is deleted too."""

    def __init__(self, key: str) -> None:
        command = f"kb delete {key}" if "/" in key else f"kb tenant delete {key} --now"
        super().__init__(f"{key}: its removal has begun and cannot be taken back; bring it to its end with: {command}")
        self.key = key


class UnknownPlan(UsageError):
    """No such plan has been applied."""

    def __init__(self, plan: str) -> None:
        super().__init__(f"plan {plan!r}: no such plan here; apply its file first: kb plan apply FILE")
        self.plan = plan


class UnknownKb(UsageError):
    """No such KB has been applied to this home."""

    def __init__(self, kb: object, near: str | None = None) -> None:
        remedy = f"did you mean {near}? kb list shows all" if near else "apply its file first: kb apply FILE"
        super().__init__(f"{kb}: no such KB here; {remedy}")
        self.kb, self.near = kb, near


class UnknownApiKey(UsageError):
    """The tenant has no API key of that id."""

    def __init__(self, tenant: str, key_id: str) -> None:
        super().__init__(f"tenant {tenant} has no API key {key_id!r}; list them with: kb key list {tenant}")
        self.tenant, self.key_id = tenant, key_id


class UnknownOperatorKey(UsageError):
    """There is no operator key of that id."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"there is no operator key {key_id!r}; list them with: kb operator-key list")
        self.key_id = key_id


class UnknownSecret(UsageError):
    """The tenant has no secret of that name."""

    def __init__(self, tenant: str, name: str) -> None:
        super().__init__(f"tenant {tenant} has no secret {name!r}; list them with: kb secret list {tenant}")
        self.tenant, self.name = tenant, name


class UnknownModel(UsageError):
    """No embedder of that name can be opened."""

    def __init__(self, model: str, remedy: str, problem: str = "is unknown") -> None:
        super().__init__(f"embedding model {model!r} {problem}; {remedy}")
        self.model = model


class ModelNeedsExtra(UnknownModel):
    """What a model needs comes with the extra `torch`, which is not installed here."""

    def __init__(self, model: str, packages: Sequence[str]) -> None:
        lacking = f"needs {' and '.join(packages)}, not installed here"
        super().__init__(model, "get it with: pip install 'kb-pipeline[torch]'", lacking)
        self.packages = tuple(packages)


class DeviceUnavailable(UsageError):
    """A model cannot run on the device that `embedding.device` asks for."""

    def __init__(self, model: str, device: str, why: str) -> None:
        super().__init__(f"embedding model {model!r} cannot run on {device}: {why}; set embedding.device: auto or cpu")
        self.model, self.device = model, device


class UnknownDocument(UsageError):
    """The KB holds no document of that key."""

    def __init__(self, kb: object, key: str, near: Sequence[str] = ()) -> None:
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        super().__init__(f"{kb}: no document {key!r}; {meant}list them with: kb documents {kb}")
        self.kb, self.key, self.near = kb, key, tuple(near)


class AmbiguousDocument(UsageError):
    """Several documents of the KB may be meant by a part of a key or title."""

    def __init__(self, kb: object, name: str, keys: Sequence[str]) -> None:
        shown = "".join(f"\n  {key}" for key in keys[:_SHOWN_KEYS])
        more = f"\n  and {len(keys) - _SHOWN_KEYS} more" if len(keys) > _SHOWN_KEYS else ""
        super().__init__(f"{kb}: {name!r} may mean {len(keys)} documents; give more of one of them:{shown}{more}")
        self.kb, self.name, self.keys = kb, name, tuple(keys)


class UnknownVersion(UsageError):
    """The KB has no version of that number."""

    def __init__(self, kb: object, version: int | str) -> None:
        super().__init__(f"{kb}: no searchable version {version}; list them with: kb versions {kb}")
        self.kb, self.version = kb, version


class NoLiveVersion(UsageError):
    """The KB has been applied but never published."""

    def __init__(self, kb: object) -> None:
        super().__init__(f"{kb}: nothing published yet; build it first: kb build {kb}")
        self.kb = kb


class UnknownRun(UsageError):
    """The KB has no run of that id, or none at all."""

    def __init__(self, kb: object, run_id: str | None = None) -> None:
        told = "no run yet; start one with" if run_id is None else f"no run {run_id}; look at the newest with"
        super().__init__(f"{kb}: {told}: {'kb build' if run_id is None else 'kb logs'} {kb}")
        self.kb, self.run_id = kb, run_id


class UnknownJob(UsageError):
    """There is no job of that id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job {job_id!r} here; jobs that ended more than 30 days ago are forgotten")
        self.job_id = job_id


class UnknownDraft(UsageError):
    """There is no draft of that id, or it has expired."""

    def __init__(self, draft_id: str) -> None:
        super().__init__(f"no draft {draft_id!r} here; drafts expire after 24 hours")
        self.draft_id = draft_id


class KeyReused(UsageError):
    """Another request had the same idempotency key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the Idempotency-Key {key!r} was that of another request; choose a new one for each request")
        self.key = key


class SiteUnreachable(UsageError):
    """A site gives no page to begin with, or does not let it be fetched."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"{url}: {why}; nothing was written")
        self.url = url


class UnknownFlag(UsageError):
    """There is no flag of that name."""

    def __init__(self, flag: str, known: Sequence[str]) -> None:
        super().__init__(f"{flag!r} is no flag; there are {', '.join(known)}")
        self.flag = flag


class UnknownVariant(UsageError):
    """The flag has no variant of that name."""

    def __init__(self, flag: str, variant: str, known: Sequence[str]) -> None:
        super().__init__(f"{flag} has no variant {variant!r}; it has {', '.join(known)}")
        self.flag, self.variant = flag, variant


class InvalidRollout(UsageError):
    """The percentages of a rollout are invalid."""

    def __init__(self, flag: str, why: str) -> None:
        super().__init__(f"{flag}: {why}; write it as in: kb flag rollout {flag} VARIANT=10")
        self.flag = flag


class FlagNotSet(UsageError):
    """The flag to be cleared is not set there."""

    def __init__(self, flag: str, scope: str) -> None:
        super().__init__(f"{flag}: nothing is set for {scope}; see what is with: kb flag list")
        self.flag, self.scope = flag, scope


class BrowserMissing(UsageError):
    """A source asks for rendering, and what it takes is not installed."""

    def __init__(self, remedy: str) -> None:
        super().__init__(f"render: {remedy}, or set render: never")


class QuotaExceeded(KbError):
    """A tenant has used up a limit of its plan; nothing was begun that would go beyond it.

    With `renews_at` the limit is one a day: the refresh is snoozed until then, and not failed.
    """

    def __init__(
        self, tenant: str, plan: str, limit: str, used: object, allowed: object, renews_at: datetime | None = None
    ) -> None:
        renews = f"; it renews at {renews_at:%Y-%m-%d %H:%M} UTC" if renews_at else ""
        super().__init__(
            f"tenant {tenant}, plan {plan}: {limit} is {used}, allowed is {allowed}{renews}. "
            f"See: kb quota {tenant}. More gives another plan: kb tenant plan {tenant} PLAN"
        )
        self.tenant, self.plan, self.limit = tenant, plan, limit
        self.used, self.allowed, self.renews_at = used, allowed, renews_at


class RateLimited(KbError):
    """Too many requests within the last minute; waiting is enough."""

    transient = True

    def __init__(self, tenant: str, allowance: Allowance, retry_after_s: float) -> None:
        super().__init__(
            f"tenant {tenant}: more than {allowance.quota} requests a minute, which is the rate of the "
            f"{'key' if allowance.name == 'key' else 'plan'}; go on in {retry_after_s:.1f} s"
        )
        self.tenant, self.allowance, self.retry_after_s = tenant, allowance, retry_after_s


class TenantInactive(KbError):
    """A tenant's KBs may be neither refreshed nor read at present."""

    def __init__(self, tenant: str, status: str, reason: str) -> None:
        why = f": {reason}" if reason else ""
        super().__init__(f"tenant {tenant} is {status}{why}; let it go on with: kb tenant resume {tenant}")
        self.tenant, self.status, self.reason = tenant, status, reason


class FlagUnreadable(KbError):
    """The variant of a flag cannot be read at present; a wrong guess would recompute documents by other rules."""

    transient = True

    def __init__(self, flag: str, why: str) -> None:
        super().__init__(f"flag {flag} cannot be read: {why}")
        self.flag = flag


class KeyRefused(KbError):
    """An API key or token is not one of ours, was revoked or has expired. Who has not the secret is not told which."""

    def __init__(self, why: str, what: str = "the API key") -> None:
        super().__init__(f"{what} {why}; ask whoever runs this installation for another one")
        self.why = why


class IssuerAway(KbError):
    """The keys of an issuer of tokens cannot be fetched, so that its tokens can be neither accepted nor refused."""

    transient = True

    def __init__(self, issuer: str) -> None:
        super().__init__(f"the keys of {issuer} cannot be fetched at present; try again")
        self.issuer = issuer


class NotAllowed(KbError):
    """An API key or token does not allow the request; nothing was done."""

    def __init__(self, holder: object, why: str) -> None:
        super().__init__(f"{holder}: {why}")
        self.holder = str(holder)


class SecretUnreadable(KbError):
    """A secret was encrypted with a key that is not here, or is not what was stored."""

    def __init__(self, tenant: str, name: str) -> None:
        super().__init__(
            f"tenant {tenant}: the secret {name} cannot be decrypted: add the key that it was encrypted with to "
            f"KB_SECRET_KEYS, or set it again with: kb secret set {tenant} {name}"
        )
        self.tenant, self.name = tenant, name


class LeaseHeld(KbError):
    """Another run writes this KB; wait for it."""

    transient = True

    def __init__(self, kb: object, owner: str, seconds_left: float) -> None:
        super().__init__(
            f"{kb}: run {owner} is writing this KB (its lease ends in {seconds_left:.0f} s unless renewed); "
            "wait for it or cancel it, then try again"
        )
        self.kb, self.owner = kb, owner


class LeaseLost(KbError):
    """This run's lease was taken over; nothing of it may be published."""

    def __init__(self, kb: object, owner: str) -> None:
        super().__init__(f"{kb}: run {owner} lost its lease on this KB; it publishes nothing")
        self.kb, self.owner = kb, owner


class JobWithdrawn(KbError):
    """The job of a run was cancelled before it began; nothing is done."""

    def __init__(self, kb: object, job_id: str) -> None:
        super().__init__(f"{kb}: job {job_id} was cancelled before it began")
        self.kb, self.job_id = kb, job_id


class SourceFailed(KbError):
    """A source gave nothing at all, so nothing may be concluded from it."""

    transient = True

    def __init__(self, source: str, why: str) -> None:
        super().__init__(f"source {source!r}: {why}; nothing was changed")
        self.source, self.why = source, why


class ChildCrashed(KbError):
    """A worker process died before its work was done."""

    transient = True

    def __init__(self, what: str, returncode: int, stderr: str) -> None:
        super().__init__(f"{what} ended with status {returncode}: {stderr.strip() or 'no message'}")
        self.returncode = returncode


class GateFailed(KbError):
    """A candidate version did not pass its checks; the live version is unchanged."""

    def __init__(self, kb: object, failed: Sequence[str]) -> None:
        super().__init__(f"{kb}: not published, the live version is unchanged. " + "; ".join(failed))
        self.kb, self.failed = kb, tuple(failed)


class OutOfTenant(KbError):
    """Code used a tenant's session for data of another tenant; nothing was read or changed."""

    def __init__(self, tenant: str, what: str) -> None:
        super().__init__(f"tenant {tenant!r}: {what}; this is a fault of kb_pipeline, please report it")
        self.tenant = tenant


class SchemaTooNew(KbError):
    """The control plane was migrated by a newer release than this one."""

    def __init__(self, found: str, known: str) -> None:
        super().__init__(
            f"the control plane has schema revision {found}, this release knows {known} and nothing newer; "
            "nothing was changed: run the release that migrated it, or restore a backup from before"
        )
        self.found, self.known = found, known


class DamagedStore(KbError):
    """A stored table or segment cannot be read."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where} cannot be read: {why}")
        self.where = where


class InvalidManifest(KbError):
    """The manifest of a version cannot be read, or says what cannot be."""

    def __init__(self, kb: object, version: int, problem: str) -> None:
        super().__init__(
            f"{kb}: the manifest of version {version} is not valid: {problem}; "
            f"go back to another version with 'kb rollback {kb} N', or restore a backup"
        )
        self.kb, self.version, self.problem = kb, version, problem


class ModelUnavailable(KbError):
    """The model that answers for a KB cannot be used now."""

    transient = True

    def __init__(self, model: str, problem: str) -> None:
        super().__init__(f"the model {model} did not answer: {problem}; ask later, or in mode extractive")
        self.model, self.problem = model, problem


class AnswerCancelled(KbError):
    """Whoever asked does not wait for the answer any more."""

    def __init__(self) -> None:
        super().__init__("the answer was cancelled")


class DamagedBackup(KbError):
    """A backup is not what was written; nothing of it was put in place."""

    def __init__(self, file: object, why: str) -> None:
        super().__init__(f"{file}: {why}; nothing was restored, take another backup")
        self.file = file


class Unhealthy(KbError):
    """A finding of `kb doctor`, with what to do about it."""


class InvalidVector(KbError):
    """An embedder gave a vector that must not be stored."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the embedder gave a bad vector: {why}; nothing of this batch was stored")
