"""What an operator does to an installation beside its KBs: tenants, plans, API keys, secrets, flags, the audit log."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs.catalog import get_kb
from kb_pipeline.control.tenancy import api_keys, audit, plans, secrets, tenants
from kb_pipeline.errors import UnknownTenant
from kb_pipeline.model import KbKey, check_slug
from kb_pipeline.operations.authorization import Caller, operation
from kb_pipeline.settings import Settings

if TYPE_CHECKING:
    from kb_pipeline.control.flags.overrides import FlagRecord, Scope
    from kb_pipeline.control.flags.provider import FlagChoice
    from kb_pipeline.operations.deletion_receipt import DeletionReceipt
    from kb_pipeline.operations.orchestrator import Orchestrator


class _Administration:
    """A part of the installation, for one caller."""

    def __init__(self, settings: Settings, db: Database, caller: Caller) -> None:
        self._settings, self._db, self._caller = settings, db, caller

    @property
    def caller(self) -> Caller:
        """Who it acts for."""
        return self._caller


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
        return tenants.get_tenant(self._db, tenant)

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
        self, tenant: str, scopes: Collection[str], *, label: str = "", lifetime: timedelta | None = None
    ) -> tuple[str, api_keys.KeyRecord]:
        """Make a key; returns it, for the only time, and its description.

        Raises:
            UsageError: there is no such scope (read, build, manage), or none was given.
            UnknownTenant, TenantInactive: nobody may act for the tenant.
        """
        return api_keys.create_key(self._db, tenant, scopes, self._caller.actor, label=label, lifetime=lifetime)

    @operation("key list")
    def list(self, tenant: str) -> list[api_keys.KeyRecord]:
        """Return a tenant's keys, oldest first: what they may do, until when, when they were used last."""
        tenants.get_tenant(self._db, tenant)
        return list(api_keys.list_keys(self._db, tenant))

    @operation("key revoke")
    def revoke(self, tenant: str, key_id: str) -> api_keys.KeyRecord:
        """Refuse a key from now on, in every process; raise UnknownApiKey."""
        return api_keys.revoke_key(self._db, tenant, key_id, self._caller.actor)


class Secrets(_Administration):
    """Values that a tenant's KB files name and nobody reads."""

    @operation("secret set")
    def set(self, tenant: str, name: str, value: str) -> None:
        """Store a value under a name, encrypted; raise UnknownTenant or UsageError."""
        secrets.set_secret(self._settings, self._db, tenant, name, value, self._caller.actor)

    @operation("secret list")
    def list(self, tenant: str) -> list[secrets.SecretRecord]:
        """Return the names, and when and by whom each was set; values are never shown."""
        tenants.get_tenant(self._db, tenant)
        return list(secrets.list_secrets(self._db, tenant))

    @operation("secret delete")
    def delete(self, tenant: str, name: str) -> None:
        """Forget a value; KBs whose files name it cannot be refreshed until it is set again."""
        secrets.delete_secret(self._db, tenant, name, self._caller.actor)

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
        """Return the flags with all that is set."""
        from kb_pipeline.control.flags.overrides import list_states

        return list_states(self._db)

    @operation("flag list")
    def of_kb(self, kb: str | KbKey) -> Sequence[FlagChoice]:
        """Return what each flag is for one KB, and why; raise UnknownKb."""
        from kb_pipeline.control.flags.provider import evaluate_flags

        return evaluate_flags(self._db, get_kb(self._db, kb if isinstance(kb, KbKey) else KbKey.parse(kb)).key)

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
    def list(self, tenant: str | None = None) -> Iterator[audit.AuditRecord]:
        """Yield changes, oldest first: by whom, when, from what to what.

        Args:
            tenant: whose; without it the caller's own, or the installation's for the operator.

        Raises:
            UnknownTenant: it is not the caller's.
        """
        return audit.list_entries(self._db, self._caller.tenant_named(tenant) or "")

    @operation("audit verify")
    def verify(self) -> Sequence[audit.Chain]:
        """Recompute the chain of every tenant's log; returns one a tenant, with where it is broken."""
        return audit.verify(self._db)


def _scope(tenant: str | None, kb: str | None) -> Scope:
    from kb_pipeline.control.flags.overrides import EVERYBODY, Scope
    from kb_pipeline.errors import UsageError

    if tenant is not None and kb is not None:
        raise UsageError("give a tenant or a KB, not both: a KB's key names its tenant")
    if kb is not None:
        key = KbKey.parse(kb)
        return Scope(key.tenant, key.kb)
    return Scope(check_slug(tenant)) if tenant is not None else EVERYBODY
