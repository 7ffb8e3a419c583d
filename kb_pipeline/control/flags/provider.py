"""Answers OpenFeature from the control plane: which variant of a flag a KB has, and why.

The targeting key is the KB's: `tenant/kb`. First comes what is set for the KB, then for its tenant, then the rollout,
then the default. What was read is kept, and the counter of changes is looked at once in a while: a change by another
process is seen within that time.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import FlagNotFoundError, InvalidContextError, TargetingKeyMissingError, TypeMismatchError
from openfeature.flag_evaluation import FlagEvaluationDetails, FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, Metadata, ProviderStatus

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.flags.overrides import WHOLE_TENANT, FlagState, Rollout, count_changes, read_states
from kb_pipeline.control.flags.registry import KNOWN_FLAGS, FlagValue, KnownFlag
from kb_pipeline.errors import FlagUnreadable, InvalidKey
from kb_pipeline.interrupts import deferred_interrupts
from kb_pipeline.model import KbKey, Record

LOOK_EVERY_S = 1.0
"""How long a change by another process may stay unseen."""
_MOST_TENANTS = 1000
"""Whose flags a provider keeps: those that were asked for last."""
_Value = TypeVar("_Value")


class ControlPlaneProvider(AbstractProvider):
    """One control plane's flags, as OpenFeature asks for them."""

    def __init__(self, db: Database, look_every_s: float = LOOK_EVERY_S) -> None:
        super().__init__()
        self.db = db
        self._look_every_s = look_every_s
        self._lock = threading.Lock()
        self._states: OrderedDict[str, dict[str, FlagState]] = OrderedDict()
        self._changes = -1
        self._next_look = 0.0

    def get_metadata(self) -> Metadata:
        """Return the name of this provider."""
        return Metadata(name="kb_pipeline control plane")

    def look_again(self) -> None:
        """See every change from now on, also of the last second."""
        self._next_look = 0.0

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        """For a flag that is on or off."""
        return self._resolve(flag_key, (bool,), evaluation_context)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        """For a flag whose variants are words."""
        return self._resolve(flag_key, (str,), evaluation_context)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        """For a flag whose variants are whole numbers."""
        return self._resolve(flag_key, (int,), evaluation_context)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        """For a flag whose variants are numbers."""
        return self._resolve(flag_key, (float, int), evaluation_context)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        """For a flag whose variants are lists or mappings."""
        return self._resolve(flag_key, (list, dict), evaluation_context)

    def _resolve(
        self, name: str, kinds: tuple[type, ...], context: EvaluationContext | None
    ) -> FlagResolutionDetails[Any]:
        flag = KNOWN_FLAGS.get(name)
        if flag is None:
            raise FlagNotFoundError(f"no flag {name!r}; there are {', '.join(KNOWN_FLAGS)}")
        key = _key(context)
        variant, scope, reason = choose(flag, self._states_of(key.tenant).get(name, FlagState()), key)
        value = flag.variants[variant]
        if type(value) not in kinds:  # a bool is an int to isinstance
            raise TypeMismatchError(f"{name} is {type(value).__name__}")
        return FlagResolutionDetails(value, reason=reason, variant=variant, flag_metadata={"scope": scope})

    def _states_of(self, tenant: str) -> dict[str, FlagState]:
        with self._lock:
            if time.monotonic() >= self._next_look:
                changes = count_changes(self.db)
                if changes != self._changes:
                    self._states.clear()
                self._changes, self._next_look = changes, time.monotonic() + self._look_every_s
            if tenant not in self._states:
                self._states[tenant] = read_states(self.db, tenant)
            self._states.move_to_end(tenant)
            if len(self._states) > _MOST_TENANTS:
                self._states.popitem(last=False)
            return self._states[tenant]


def choose(flag: KnownFlag, state: FlagState, key: KbKey) -> tuple[str, str, Reason]:
    """Return a KB's variant of a flag, what decided it (kb, tenant, rollout or default) and OpenFeature's reason."""
    for scope, kb in (("kb", key.kb), ("tenant", WHOLE_TENANT)):
        if kb in state.overrides:
            return state.overrides[kb], scope, Reason.TARGETING_MATCH
    if (variant := _rolled_out(flag.name, state.rollout, key)) in flag.variants:
        return variant, "rollout", Reason.SPLIT
    return state.default or flag.default, "default", Reason.DEFAULT if state.rollout else Reason.STATIC


def _rolled_out(name: str, rollout: Rollout, key: KbKey) -> str:
    """Return the variant whose share of a rollout the KB is in; empty for none."""
    place, reached = _place(name, key), 0.0
    for variant, percent in rollout:
        reached += percent
        if place < reached:
            return variant
    return ""


def _place(name: str, key: KbKey) -> float:
    """Where a KB stands between 0 and 100: for each flag elsewhere, or the same KBs would go first every time."""
    drawn = hashlib.sha256(f"{name}\n{key}".encode()).digest()[:8]
    return int.from_bytes(drawn, "big") / 2**64 * 100


def _key(context: EvaluationContext | None) -> KbKey:
    if context is None or not context.targeting_key:
        raise TargetingKeyMissingError("the targeting key is the KB's: tenant/kb")
    try:
        return KbKey.parse(context.targeting_key)
    except InvalidKey as error:
        raise InvalidContextError(str(error)) from None


class ControlPlaneClient(OpenFeatureClient):
    """OpenFeature's client of one control plane.

    It holds its provider itself. OpenFeature's registry of providers is one for the whole process: two installations
    in one process would share what is registered there, and a provider in it would outlive its database.
    """

    def __init__(self, provider: ControlPlaneProvider) -> None:
        super().__init__(domain=None, version=None)
        self._provider = provider

    @property
    def provider(self) -> ControlPlaneProvider:
        """The provider that this client asks."""
        return self._provider

    def get_provider_status(self) -> ProviderStatus:
        """Return READY: the provider has nothing to initialize, and each evaluation says whether it failed."""
        return ProviderStatus.READY


def open_client(db: Database, look_every_s: float = LOOK_EVERY_S) -> ControlPlaneClient:
    """Return a client that keeps what it has read, and sees changes by others within `look_every_s` seconds."""
    return ControlPlaneClient(ControlPlaneProvider(db, look_every_s))


@dataclass(frozen=True, slots=True)
class FlagChoice(Record):
    """The variant of a flag that one KB has, and why."""

    flag: str
    variant: str | None
    value: FlagValue
    reason: str
    """OpenFeature's word: TARGETING_MATCH, SPLIT, DEFAULT or STATIC."""
    set_for: str
    """What decided it: kb, tenant, rollout or default."""


def evaluate_flags(db: Database, key: KbKey) -> list[FlagChoice]:
    """Return what a KB has of every flag now, by name.

    Raises:
        FlagUnreadable: the control plane does not answer; a default in its place might be another variant.
    """
    client = open_client(db)
    return [_evaluate(client, flag, key) for _, flag in sorted(KNOWN_FLAGS.items())]


def read_flags(db: Database, key: KbKey) -> dict[str, FlagValue]:
    """Return the value of every flag of a KB as it is now; raises FlagUnreadable."""
    return {choice.flag: choice.value for choice in evaluate_flags(db, key)}


def _evaluate(client: OpenFeatureClient, flag: KnownFlag, key: KbKey) -> FlagChoice:
    default, context = flag.variants[flag.default], EvaluationContext(str(key))
    found: FlagEvaluationDetails[Any]
    with deferred_interrupts():  # the SDK makes an UnboundLocalError of whatever is no Exception
        if isinstance(default, bool):
            found = client.get_boolean_details(flag.name, default, context)
        else:
            found = client.get_string_details(flag.name, default, context)
    if found.error_code:
        raise FlagUnreadable(flag.name, found.error_message or found.error_code.value)
    return FlagChoice(flag.name, found.variant, found.value, str(found.reason), str(found.flag_metadata["scope"]))
