"""What there is in an installation beside its KBs: drafts, tenants, plans, keys, secrets, flags, the audit log."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs import drafts
from kb_pipeline.control.kbs.catalog import get_kb
from kb_pipeline.control.kbs.drafts import DraftRecord
from kb_pipeline.control.tenancy import api_keys, audit, operator_keys, plans, secrets, tenants
from kb_pipeline.errors import InvalidKey, UnknownTenant, UsageError
from kb_pipeline.model import KbKey, RequestOnce, check_slug
from kb_pipeline.operations.authorization import Caller, operation
from kb_pipeline.settings import Settings

if TYPE_CHECKING:
    from kb_pipeline.control.flags.overrides import FlagRecord, Scope
    from kb_pipeline.control.flags.provider import FlagChoice
    from kb_pipeline.operations.deletion_receipt import DeletionReceipt
    from kb_pipeline.operations.draft_estimate import DraftEstimate
    from kb_pipeline.operations.draft_preview import DraftPreview
    from kb_pipeline.operations.drafts import DraftVerdict, FinishedDraft
    from kb_pipeline.operations.orchestrator import Orchestrator


class _Administration:
    """A part of the installation, for one caller."""

    def __init__(self, settings: Settings, db: Database, caller: Caller) -> None:
        self._settings, self._db, self._caller = settings, db, caller

    @property
    def caller(self) -> Caller:
        """Who it acts for."""
        return self._caller

    def _visible(self, tenant: str) -> str:
        """Return the tenant if it is the caller's to administrate; raise UnknownTenant if not."""
        return self._caller.tenant_named(tenant) or tenant


class Tenants(_Administration):
    """The customers of this installation."""

    def __init__(
        self, settings: Settings, db: Database, caller: Caller, orchestrator: Callable[[], Orchestrator]
    ) -> None:
        super().__init__(settings, db, caller)
        self._orchestrator = orchestrator

    @operation("tenant create")
    def create(self, tenant: str, plan: str = "default", *, reuse_key: bool = False) -> tenants.TenantRecord:
        """Add a tenant; applying a KB file of a new tenant does so too, with the plan `default`.

        Raises:
            InvalidKey, TenantExists, KeyRetired, UnknownPlan: it cannot be added.
        """
        tenants.create_tenant(self._db, tenant, plan, self._caller.actor, reuse=reuse_key)
        return tenants.get_tenant(self._db, tenant)

    @operation("tenant list")
    def list(self) -> list[tenants.TenantRecord]:
        """Return the tenants, by name."""
        return list(tenants.list_tenants(self._db))

    @operation("tenant show")
    def get(self, tenant: str) -> tenants.TenantRecord:
        """Return one tenant: its plan, whether it is active, since when; raise UnknownTenant."""
        return tenants.get_tenant(self._db, self._visible(tenant))

    @operation("tenant plan")
    def set_plan(self, tenant: str, plan: str) -> tenants.TenantRecord:
        """Give a tenant another plan; raise UnknownTenant or UnknownPlan."""
        return tenants.set_plan(self._db, tenant, plan, self._caller.actor)

    @operation("tenant suspend")
    def suspend(self, tenant: str, reason: str = "") -> tenants.TenantRecord:
        """Refuse a tenant's refreshes and searches from now on, saying why; nothing of it is lost."""
        return tenants.set_status(self._db, tenant, "suspended", reason, self._caller.actor)

    @operation("tenant resume")
    def resume(self, tenant: str) -> tenants.TenantRecord:
        """Let a tenant go on."""
        return tenants.set_status(self._db, tenant, "active", "", self._caller.actor)

    @operation("tenant delete")
    def schedule_deletion(self, tenant: str, grace: timedelta = timedelta(days=7)) -> tenants.TenantRecord:
        """Refuse a tenant's runs and searches at once; after the grace, everything of it is removed."""
        return tenants.schedule_deletion(self._db, tenant, grace, self._caller.actor)

    @operation("tenant delete")
    def delete(self, tenant: str) -> DeletionReceipt:
        """Remove a tenant at once, everything of it; returns the receipt, also of one that was removed before.

        Raises:
            UnknownTenant: there never was one.
        """
        from kb_pipeline.operations.delete import delete_tenant

        try:
            if tenants.get_tenant(self._db, tenant).status != "removing":
                tenants.schedule_deletion(self._db, tenant, timedelta(0), self._caller.actor)
        except UnknownTenant:
            pass  # it was removed before and left a receipt, or else delete_tenant says that there never was one
        with self._orchestrator().open_history() as history:
            return delete_tenant(self._settings, self._db, history, tenant)


class Drafts(_Administration):
    """KBs that are being described, for 24 hours each: written piece by piece, tried out, and made a KB in one step."""

    @operation("apply")
    def create(self, body: Mapping[str, object], tenant: str | None = None) -> DraftRecord:
        """Begin a draft with any of a KB file's fields.

        Args:
            body: the fields, as far as they are known; they need not be valid.
            tenant: whose; a key's own without it.

        Raises:
            UnknownTenant: it is not the caller's.
            UsageError: the body names another tenant, or is far too long.
        """
        from kb_pipeline.operations.drafts import checked_body

        named = self._tenant(tenant if tenant is not None else _text(body.get("tenant")))
        return drafts.create_draft(self._db, named, checked_body(named, body), self._caller.actor)

    @operation("show")
    def get(self, draft_id: str, tenant: str | None = None) -> DraftRecord:
        """Return a draft; raise UnknownDraft."""
        return drafts.get_draft(self._db, self._tenant(tenant), draft_id)

    @operation("show")
    def list(self, tenant: str | None = None) -> list[DraftRecord]:
        """Return the drafts that have not expired, the newest first."""
        return drafts.list_drafts(self._db, self._tenant(tenant))

    @operation("apply")
    def patch(self, draft_id: str, patch: Mapping[str, object], tenant: str | None = None) -> DraftRecord:
        """Change fields by a JSON merge patch (RFC 7396); raise UnknownDraft or UsageError."""
        from kb_pipeline.operations.drafts import patch_draft

        return patch_draft(self._db, self._tenant(tenant), draft_id, patch)

    @operation("apply")
    def put_section(
        self, draft_id: str, name: str, section: Mapping[str, object], tenant: str | None = None
    ) -> DraftRecord:
        """Write one section whole, such as `chunking`; raise UnknownDraft or UsageError."""
        from kb_pipeline.operations.drafts import put_section

        return put_section(self._db, self._tenant(tenant), draft_id, name, section)

    @operation("apply")
    def put_source(self, draft_id: str, source: Mapping[str, object], tenant: str | None = None) -> DraftRecord:
        """Add a source, in the place of the one of that name if there is one; raise UnknownDraft or UsageError."""
        from kb_pipeline.operations.drafts import put_source

        return put_source(self._db, self._tenant(tenant), draft_id, source)

    @operation("apply")
    def remove_source(self, draft_id: str, name: str, tenant: str | None = None) -> DraftRecord:
        """Remove a source; raise UnknownDraft, or UsageError if there is none of that name."""
        from kb_pipeline.operations.drafts import remove_source

        return remove_source(self._db, self._tenant(tenant), draft_id, name)

    @operation("apply")
    def delete(self, draft_id: str, tenant: str | None = None) -> None:
        """Delete a draft; raise UnknownDraft."""
        drafts.delete_draft(self._db, self._tenant(tenant), draft_id)

    @operation("apply")
    def validate(self, draft_id: str, tenant: str | None = None) -> DraftVerdict:
        """Say what is wrong with a draft, or what finishing it would do; nothing changes. Raises UnknownDraft."""
        from kb_pipeline.operations.drafts import validate_draft

        return validate_draft(self._settings, self._db, self._caller, self._draft(draft_id, tenant))

    @operation("apply")
    def preview(self, draft_id: str, pages: int = 3, tenant: str | None = None) -> DraftPreview:
        """Fetch a few real pages of each source, clean and chunk them: what a refresh would publish of them.

        Raises:
            UnknownDraft: there is no such draft.
            InvalidSpec, UnknownModel, QuotaExceeded: it is not valid.
            SourceFailed: no source gave anything.
        """
        from kb_pipeline.operations.draft_preview import preview_draft

        return preview_draft(self._settings, self._db, self._caller, self._draft(draft_id, tenant), pages)

    @operation("apply")
    def estimate(self, draft_id: str, tenant: str | None = None) -> DraftEstimate:
        """Say what a first refresh takes: pages, bytes, tokens, cost, minutes, each as a range; raises as `preview`."""
        from kb_pipeline.operations.draft_estimate import estimate_draft

        return estimate_draft(self._settings, self._db, self._caller, self._draft(draft_id, tenant))

    @operation("apply")
    def finalize(self, draft_id: str, tenant: str | None = None, *, once: RequestOnce | None = None) -> FinishedDraft:
        """Make a draft a KB and ask for its first refresh, in one transaction in which the draft goes.

        Args:
            draft_id: the draft.
            tenant: whose; a key's own without it.
            once: what tells this request from others, if its client may send it again.

        Raises:
            UnknownDraft: there is no such draft.
            InvalidSpec, UnknownModel, QuotaExceeded, KeyRetired, TenantInactive: nothing was changed.
            KeyReused: another request had the same key.
        """
        from kb_pipeline.operations.drafts import finalize_draft

        return finalize_draft(self._settings, self._db, self._caller, self._tenant(tenant), draft_id, once)

    def _draft(self, draft_id: str, tenant: str | None) -> DraftRecord:
        return drafts.get_draft(self._db, self._tenant(tenant), draft_id)

    def _tenant(self, tenant: str | None) -> str:
        named = self._caller.tenant_named(tenant)
        if named is None:
            raise UsageError("name the tenant")
        try:
            return check_slug(named)
        except InvalidKey:
            raise UnknownTenant(named) from None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


class Plans(_Administration):
    """What the tenants of this installation may use."""

    @operation("plan apply")
    def apply(self, *files: str | Path) -> list[tuple[str, str]]:
        """Create or change plans from their files; nothing is applied unless every file is valid.

        Returns:
            Each plan's name and what became of it: created, updated or unchanged.

        Raises:
            InvalidSpec: a file is not valid.
        """
        from kb_pipeline.spec.plan_file import load_plan

        specs = [load_plan(Path(file)) for file in files]
        return [(name, action) for name, action in plans.apply_plans(self._db, specs, self._caller.actor)]

    @operation("plan apply")
    def apply_text(self, yaml: str, name: str = "the plan file") -> tuple[str, str]:
        """Create or change a plan from the text of its file; see `apply`.

        Args:
            yaml: the text.
            name: what errors call it.
        """
        from kb_pipeline.spec.plan_file import parse_plan

        ((plan, action),) = plans.apply_plans(self._db, [parse_plan(yaml, name)], self._caller.actor)
        return plan, action

    @operation("plan list")
    def list(self) -> list[plans.PlanRecord]:
        """Return the plans; what they do not limit is unlimited."""
        return list(plans.list_plans(self._db))

    @operation("plan show")
    def get(self, plan: str) -> plans.PlanRecord:
        """Return one plan: its limits and prices; raise UnknownPlan."""
        return plans.get_plan(self._db, plan)


class ApiKeys(_Administration):
    """With which keys tenants' programs may act for them."""

    @operation("key create")
    def create(
        self,
        tenant: str,
        scopes: Collection[str],
        *,
        label: str = "",
        kbs: Collection[str] | None = None,
        requests_per_minute: int | None = None,
        lifetime: timedelta | None = None,
    ) -> tuple[str, api_keys.KeyRecord]:
        """Make a key; returns it, for the only time, and its description.

        Args:
            tenant: for whom the key acts.
            scopes: read, build, manage, admin: no more than the caller has.
            label: what it is for.
            kbs: the only KBs that it may see, by name within the tenant; None for all.
            requests_per_minute: its own rate over HTTP, beside that of its tenant's plan; None for none.
            lifetime: how long it is valid; None for ever.

        Raises:
            UsageError: there is no such scope, or none was given; the rate is out of range; it is to administrate the
                tenant, but for some KBs.
            NotAllowed: the caller has not all of the scopes.
            UnknownTenant, TenantInactive: nobody may act for the tenant.
        """
        named = self._visible(tenant)
        self._caller.require_scopes(scopes)
        return api_keys.create_key(
            self._db, named, scopes, self._caller.actor, label=label, kbs=kbs,
            requests_per_minute=requests_per_minute, lifetime=lifetime,
        )  # fmt: skip

    @operation("key list")
    def list(self, tenant: str) -> list[api_keys.KeyRecord]:
        """Return a tenant's keys, oldest first: what they may do, until when, when they were used last."""
        return list(api_keys.list_keys(self._db, tenants.get_tenant(self._db, self._visible(tenant)).tenant))

    @operation("key revoke")
    def revoke(self, tenant: str, key_id: str) -> api_keys.KeyRecord:
        """Refuse a key from now on, in every process; raise UnknownApiKey."""
        return api_keys.revoke_key(self._db, self._visible(tenant), key_id, self._caller.actor)


class OperatorKeys(_Administration):
    """With which keys programs elsewhere may do what the operator may."""

    @operation("operator-key create")
    def create(
        self, *, label: str = "", lifetime: timedelta | None = None
    ) -> tuple[str, operator_keys.OperatorKeyRecord]:
        """Make a key; returns it, for the only time, and its description; raise UsageError for an unusable label."""
        return operator_keys.create_key(self._db, self._caller.actor, label=label, lifetime=lifetime)

    @operation("operator-key list")
    def list(self) -> list[operator_keys.OperatorKeyRecord]:
        """Return the keys, oldest first: who made them, until when they are valid, when they were used last."""
        return list(operator_keys.list_keys(self._db))

    @operation("operator-key revoke")
    def revoke(self, key_id: str) -> operator_keys.OperatorKeyRecord:
        """Refuse a key from now on, in every process; raise UnknownOperatorKey."""
        return operator_keys.revoke_key(self._db, key_id, self._caller.actor)


class Secrets(_Administration):
    """Values that a tenant's KB files name and nobody reads."""

    @operation("secret set")
    def set(self, tenant: str, name: str, value: str) -> None:
        """Store a value under a name, encrypted; raise UnknownTenant or UsageError."""
        secrets.set_secret(self._settings, self._db, self._visible(tenant), name, value, self._caller.actor)

    @operation("secret list")
    def list(self, tenant: str) -> list[secrets.SecretRecord]:
        """Return the names, and when and by whom each was set; values are never shown."""
        return list(secrets.list_secrets(self._db, tenants.get_tenant(self._db, self._visible(tenant)).tenant))

    @operation("secret delete")
    def delete(self, tenant: str, name: str) -> None:
        """Forget a value; KBs whose files name it cannot be refreshed until it is set again."""
        secrets.delete_secret(self._db, self._visible(tenant), name, self._caller.actor)

    @operation("secret rotate")
    def rotate(self) -> secrets.Rotation:
        """Encrypt every tenant's secrets with the newest key; returns how many, and those that cannot be decrypted."""
        return secrets.rotate_secrets(self._settings, self._db, self._caller.actor)

    @operation("secret key")
    def new_key(self) -> str:
        """Return a new key to encrypt with; the operator puts it first in KB_SECRET_KEYS."""
        return secrets.new_key()


class Flags(_Administration):
    """Choices that the operator makes while everything runs.

    What is set holds for one KB (`kb`), for a tenant's KBs (`tenant`), or, without either, for everybody.
    """

    @operation("flag list")
    def list(self) -> list[FlagRecord]:
        """Return the flags with all that is set; to a token's holder, what is set for its tenant or everybody."""
        from kb_pipeline.control.flags.overrides import list_states

        return list_states(self._db, self._caller.tenant)

    @operation("flag list")
    def of_kb(self, kb: str | KbKey) -> Sequence[FlagChoice]:
        """Return what each flag is for one KB, and why; raise UnknownKb."""
        from kb_pipeline.control.flags.provider import evaluate_flags

        named = self._caller.visible_kb(kb if isinstance(kb, KbKey) else KbKey.parse(kb))
        return evaluate_flags(self._db, get_kb(self._db, named).key)

    @operation("flag set")
    def set(self, name: str, variant: str, *, tenant: str | None = None, kb: str | None = None) -> FlagRecord:
        """Give a KB, a tenant or everybody a variant; refreshes go by it from the next one on.

        Raises:
            UnknownFlag, UnknownVariant, UnknownTenant, UnknownKb: there is none such.
            UsageError: both a tenant and a KB were given.
        """
        from kb_pipeline.control.flags.overrides import set_variant

        set_variant(self._db, name, variant, _scope(tenant, kb), self._caller.actor)
        return self._state(name)

    @operation("flag rollout")
    def roll_out(self, name: str, shares: Iterable[tuple[str, float]]) -> FlagRecord:
        """Give variants to percentages of the KBs; raised later, a share keeps those that have it.

        Raises:
            UnknownFlag, UnknownVariant, InvalidRollout: it cannot be.
        """
        from kb_pipeline.control.flags.overrides import set_rollout

        set_rollout(self._db, name, tuple(shares), self._caller.actor)
        return self._state(name)

    @operation("flag clear")
    def clear(self, name: str, *, tenant: str | None = None, kb: str | None = None) -> FlagRecord:
        """Take back what is set for a KB, a tenant or everybody, with the rollout; raise FlagNotSet."""
        from kb_pipeline.control.flags.overrides import clear_flag

        clear_flag(self._db, name, _scope(tenant, kb), self._caller.actor)
        return self._state(name)

    def _state(self, name: str) -> FlagRecord:
        from kb_pipeline.control.flags.overrides import list_states

        return next(state for state in list_states(self._db) if state.flag == name)


class AuditLog(_Administration):
    """Who changed what, and whether that is still what was written."""

    @operation("audit list")
    def list(
        self, tenant: str | None = None, *, after: int = 0, limit: int | None = None
    ) -> Iterator[audit.AuditRecord]:
        """Yield changes, oldest first: by whom, when, from what to what.

        Args:
            tenant: whose; without it the caller's own, or the installation's for the operator.
            after: the number of the change after which to begin.
            limit: the most that are returned; None for all.

        Raises:
            UnknownTenant: it is not the caller's.
        """
        return audit.list_entries(self._db, self._caller.tenant_named(tenant) or "", after=after, limit=limit)

    @operation("audit verify")
    def verify(self, *, after: str | None = None, limit: int | None = None) -> Sequence[audit.Chain]:
        """Recompute the chain of every tenant's log; returns one a tenant, with where it is broken.

        Args:
            after: the tenant after whose log to begin, by name, the installation's being the first; None for all.
            limit: the most logs that are looked at; None for all.
        """
        return audit.verify(self._db, after=after, limit=limit)


def _scope(tenant: str | None, kb: str | None) -> Scope:
    from kb_pipeline.control.flags.overrides import EVERYBODY, Scope
    from kb_pipeline.errors import UsageError

    if tenant is not None and kb is not None:
        raise UsageError("give a tenant or a KB, not both: a KB's key names its tenant")
    if kb is not None:
        key = KbKey.parse(kb)
        return Scope(key.tenant, key.kb)
    return Scope(check_slug(tenant)) if tenant is not None else EVERYBODY
