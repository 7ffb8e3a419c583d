"""Flags: what there is to choose, what is set for whom, and what one KB has and why; setting them is the operator's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from kb_pipeline.errors import UnknownFlag
from kb_pipeline.service.api.shapes import After, Answer, Limit, NextPage, page_after
from kb_pipeline.service.callers import HomeOfCaller
from kb_pipeline.service.names import KbId, KbInPath, kb_key, open_kb, tenant_name

router = APIRouter(tags=["flags"])
FlagName = Annotated[str, Path(max_length=64, description="As the flags are listed.")]
_OF_TENANT = "Of this tenant's KBs."
_OF_KB = "Of this KB alone, by its id."


class Share(BaseModel):
    """How many of the KBs have a variant."""

    model_config = ConfigDict(extra="forbid")
    variant: str = Field(max_length=64)
    percent: float = Field(ge=0, le=100, allow_inf_nan=False)


class Rollout(BaseModel):
    """Variants for a part of the KBs each; who is in it stays in it when the first one's share is raised."""

    model_config = ConfigDict(extra="forbid")
    shares: list[Share] = Field(max_length=20)


class FlagVariant(BaseModel):
    """Which variant, and for whom: one KB, a tenant's KBs, or without either everybody."""

    model_config = ConfigDict(extra="forbid")
    variant: str = Field(max_length=64)
    tenant: str | None = Field(default=None, max_length=127, description=_OF_TENANT)
    kb: str | None = Field(default=None, max_length=127, description=_OF_KB)


def _shares(rollout: Any) -> Any:  # noqa: ANN401 - whatever is to be validated
    if isinstance(rollout, Mapping):
        return [{"variant": variant, "percent": percent} for variant, percent in rollout.items()]
    return rollout


def _number(overrides: Any) -> Any:  # noqa: ANN401 - whatever is to be validated
    return len(overrides) if isinstance(overrides, Mapping) else overrides


class Flag(Answer):
    """A flag, and what is set for everybody."""

    flag: str
    about: str = Field(description="What it decides.")
    variants: dict[str, bool | str] = Field(description="The value of each variant.")
    default: str = Field(description="The variant of whoever is given no other.")
    rollout: Annotated[list[Share], BeforeValidator(_shares)]
    overrides: Annotated[int, BeforeValidator(_number)] = Field(
        description="For how many tenants and KBs another variant is set."
    )


class FlagList(Answer):
    """Every flag that there is, by name; there are few."""

    flags: list[Flag]


class Override(Answer):
    """What is set for one tenant or KB."""

    tenant: str
    kb: KbId | None = Field(description="Null if it holds for all the tenant's KBs that have none of their own.")
    variant: str


class OverridePage(Answer):
    """What is set for some tenants and KBs, by name."""

    overrides: list[Override]
    after: NextPage


class Choice(Answer):
    """The variant of a flag that a KB has, and why."""

    flag: str
    variant: str | None
    value: bool | str
    reason: str = Field(description="OpenFeature's word: TARGETING_MATCH, SPLIT, DEFAULT or STATIC.")
    set_for: str = Field(description="What decided it: kb, tenant, rollout or default.")


class FlagsOfKb(Answer):
    """What each flag is for one KB."""

    id: KbId
    flags: list[Choice]


@router.get("/flags")
def list_flags(home: HomeOfCaller) -> FlagList:
    """List the flags and what is set for everybody; a tenant's token sees how much is set for its own KBs."""
    return FlagList(flags=[Flag.model_validate(each) for each in home.flags.list()])


@router.get("/flags/{flag}/overrides")
def list_overrides(flag: FlagName, home: HomeOfCaller, limit: Limit = 100, after: After = "") -> OverridePage:
    """List for which tenants and KBs a flag is set; to a tenant's token, those of its own."""
    known = {each.flag: each for each in home.flags.list()}
    if flag not in known:
        raise UnknownFlag(flag, list(known))
    page, following = page_after(known[flag].overrides.items(), lambda each: each[0].replace("/", "."), after, limit)
    return OverridePage(overrides=[_override(scope, variant) for scope, variant in page], after=following)


@router.put("/flags/{flag}")
def set_flag(flag: FlagName, home: HomeOfCaller, asked: FlagVariant) -> Flag:
    """Give a KB, a tenant or everybody a variant; refreshes go by it from the next one on."""
    tenant, kb = _scope(asked.tenant, asked.kb)
    return Flag.model_validate(home.flags.set(flag, asked.variant, tenant=tenant, kb=kb))


@router.put("/flags/{flag}/rollout")
def roll_out_flag(flag: FlagName, home: HomeOfCaller, asked: Rollout) -> Flag:
    """Give variants to percentages of the KBs."""
    return Flag.model_validate(home.flags.roll_out(flag, [(share.variant, share.percent) for share in asked.shares]))


@router.delete("/flags/{flag}")
def clear_flag(
    flag: FlagName,
    home: HomeOfCaller,
    tenant: Annotated[str | None, Query(max_length=127, description=_OF_TENANT)] = None,
    kb: Annotated[str | None, Query(max_length=127, description=_OF_KB)] = None,
) -> Flag:
    """Take back what is set for a KB or a tenant, or without either what is for everybody, with the rollout."""
    of_tenant, of_kb = _scope(tenant, kb)
    return Flag.model_validate(home.flags.clear(flag, tenant=of_tenant, kb=of_kb))


@router.get("/kbs/{kb}/flags")
def list_flags_of_kb(kb: KbInPath, home: HomeOfCaller) -> FlagsOfKb:
    """Say what each flag is for a KB, and what decided it."""
    found = home.flags.of_kb(open_kb(home, kb).key)
    return FlagsOfKb(id=kb, flags=[Choice.model_validate(each) for each in found])


def _scope(tenant: str | None, kb: str | None) -> tuple[str | None, str | None]:
    """Return for whom a flag is set as the Python API names it."""
    return None if tenant is None else tenant_name(tenant), None if kb is None else str(kb_key(kb))


def _override(scope: str, variant: str) -> Override:
    tenant, slash, _ = scope.partition("/")
    return Override(tenant=tenant, kb=scope.replace("/", ".") if slash else None, variant=variant)
