"""What the operator set of the flags: a default, a rollout, overrides of tenants and KBs; each change is audited.

A counter grows with every change, so that other processes notice one without reading everything again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Flag, FlagChanges, FlagOverride, Kb, Tenant
from kb_pipeline.control.flags.registry import KNOWN_FLAGS, FlagValue, known_flag
from kb_pipeline.control.tenancy import audit
from kb_pipeline.errors import FlagNotSet, InvalidRollout, UnknownKb, UnknownTenant
from kb_pipeline.model import JsonObject, KbKey, Record

WHOLE_TENANT = ""
"""The KB of an override that holds for each of a tenant's KBs that has none of its own."""
_ONLY_ROW = 1

Rollout = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class FlagState:
    """What was set of one flag, as far as it concerns one tenant."""

    default: str | None = None
    rollout: Rollout = ()
    """Variants and their percent of the KBs, in order."""
    overrides: Mapping[str, str] = field(default_factory=dict)
    """Variant by KB."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whom a variant is set for: one KB, a whole tenant, or everybody."""

    tenant: str = audit.INSTALLATION
    kb: str = WHOLE_TENANT

    def __str__(self) -> str:
        return "/".join(part for part in (self.tenant, self.kb) if part) or "everybody"


EVERYBODY = Scope()


@dataclass(frozen=True, slots=True)
class FlagRecord(Record):
    """A known flag with all that was set of it."""

    flag: str
    about: str
    """What it decides."""
    variants: Mapping[str, FlagValue]
    """The value of each variant."""
    default: str
    """The variant of whoever is given no other."""
    rollout: Mapping[str, float]
    """Percent of the KBs by variant."""
    overrides: Mapping[str, str]
    """Variant by `tenant` or `tenant/kb`."""


def count_changes(db: Database) -> int:
    """How often flags were changed: as long as this stays, all that was read of them is true."""
    with db.read_all() as session:
        return session.get_one(FlagChanges, _ONLY_ROW).number


def read_states(db: Database, tenant: str) -> dict[str, FlagState]:
    """Return the state of each known flag that is set in any way, for one tenant.

    Flags and variants that this release does not know, as a newer or older one may have, count as not set.
    """
    with db.read(tenant) as session:
        flags = {row.name: row for row in session.scalars(select(Flag))}
        overrides: dict[str, dict[str, str]] = {}
        for row in session.scalars(select(FlagOverride)):
            overrides.setdefault(row.flag, {})[row.kb] = row.variant
    return {name: _state(name, flags.get(name), overrides.get(name, {})) for name in KNOWN_FLAGS}


def list_states(db: Database, tenant: str | None = None) -> list[FlagRecord]:
    """Return every known flag with all that was set of it, by name; for a tenant only what concerns it."""
    with db.read_all() if tenant is None else db.read(tenant) as session:
        flags = {row.name: row for row in session.scalars(select(Flag))}
        overrides: dict[str, dict[str, str]] = {}
        for row in session.scalars(select(FlagOverride).order_by(FlagOverride.tenant, FlagOverride.kb)):
            overrides.setdefault(row.flag, {})[str(Scope(row.tenant, row.kb))] = row.variant
    return [_record(name, flags.get(name), overrides.get(name, {})) for name in sorted(KNOWN_FLAGS)]


def set_variant(db: Database, name: str, variant: str, scope: Scope, actor: str) -> None:
    """Give a KB, a tenant or everybody a variant.

    Raises:
        UnknownFlag, UnknownVariant: there is none such.
        UnknownTenant, UnknownKb: whom it is set for does not exist.
    """
    known_flag(name).check_variant(variant)
    with db.write_all() as session:
        _count_change(session)
        _check_exists(session, scope)
        row: Flag | FlagOverride = _flag(session, name) if scope == EVERYBODY else _override(session, name, scope)
        before = {"variant": row.variant} if row.variant else None
        row.variant, row.updated_at = variant, datetime.now(UTC)
        audit.record(session, scope.tenant, actor, "flag.set", f"{name} {scope}", before, {"variant": variant})


def set_rollout(db: Database, name: str, shares: Sequence[tuple[str, float]], actor: str) -> None:
    """Give variants to a percentage of the KBs each; who is in it stays in it when the first one's share is raised.

    Raises:
        UnknownFlag, UnknownVariant: there is none such.
        InvalidRollout: the percentages cannot be.
    """
    flag = known_flag(name)
    variants = [flag.check_variant(variant) for variant, _ in shares]
    percents = [percent for _, percent in shares]
    if len(set(variants)) != len(variants) or not all(math.isfinite(p) and p >= 0 for p in percents):
        raise InvalidRollout(name, "each variant is named once, with a percentage of 0 to 100")
    if math.fsum(percents) > 100:
        raise InvalidRollout(name, f"the percentages add up to {math.fsum(percents):g}, and 100 is all there is")
    with db.write_all() as session:
        _count_change(session)
        row = _flag(session, name)
        before, row.rollout, row.updated_at = row.rollout, [list(share) for share in shares], datetime.now(UTC)
        audit.record(
            session, audit.INSTALLATION, actor, "flag.rollout", name,
            {"rollout": before} if before else None, {"rollout": row.rollout},
        )  # fmt: skip


def clear_flag(db: Database, name: str, scope: Scope, actor: str) -> None:
    """Take back what was set for a KB or a tenant, or the default and the rollout that were set for everybody.

    Raises:
        UnknownFlag: there is none such.
        FlagNotSet: nothing was set there.
    """
    known_flag(name)
    with db.write_all() as session:
        _count_change(session)
        row: Flag | FlagOverride | None
        if scope == EVERYBODY:
            row = session.get(Flag, name)
        else:
            row = session.get(FlagOverride, (scope.tenant, name, scope.kb))
        if row is None:
            raise FlagNotSet(name, str(scope))
        before: JsonObject = {"variant": row.variant}
        if isinstance(row, Flag):
            before["rollout"] = row.rollout
        session.delete(row)
        audit.record(session, scope.tenant, actor, "flag.clear", f"{name} {scope}", before)


def _count_change(session: Session) -> None:
    """First in every change: on Postgres it makes those who change flags wait for each other."""
    session.get_one(FlagChanges, _ONLY_ROW, with_for_update=True).number += 1


def _check_exists(session: Session, scope: Scope) -> None:
    if scope.tenant and session.get(Tenant, scope.tenant) is None:
        raise UnknownTenant(scope.tenant)
    if scope.kb and session.get(Kb, (scope.tenant, scope.kb)) is None:
        raise UnknownKb(KbKey(scope.tenant, scope.kb))


def _flag(session: Session, name: str) -> Flag:
    row = session.get(Flag, name)
    if row is None:
        row = Flag(name=name, variant=None, rollout=[], updated_at=datetime.now(UTC))
        session.add(row)
    return row


def _override(session: Session, name: str, scope: Scope) -> FlagOverride:
    row = session.get(FlagOverride, (scope.tenant, name, scope.kb))
    if row is None:
        row = FlagOverride(tenant=scope.tenant, flag=name, kb=scope.kb, variant="", updated_at=datetime.now(UTC))
        session.add(row)
    return row


def _state(name: str, row: Flag | None, overrides: Mapping[str, str]) -> FlagState:
    known = KNOWN_FLAGS[name].variants
    default = row.variant if row is not None and row.variant in known else None
    rollout = tuple((variant, float(percent)) for variant, percent in (row.rollout if row else ()))
    return FlagState(default, rollout, {kb: variant for kb, variant in overrides.items() if variant in known})


def _record(name: str, row: Flag | None, overrides: Mapping[str, str]) -> FlagRecord:
    known = KNOWN_FLAGS[name]
    default = (row.variant if row else None) or known.default
    rollout = dict(row.rollout if row else ())
    return FlagRecord(name, known.about, known.variants, default, rollout, overrides)
