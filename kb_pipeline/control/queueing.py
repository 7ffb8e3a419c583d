"""How many runs a tenant may have at once by its plan, and what each of them weighs in the queue."""

from __future__ import annotations

from dataclasses import dataclass

from kb_pipeline.control.database import Database
from kb_pipeline.control.plans import Limits, limits_of_anybody, list_limits

_RUNS_AT_ONCE = 2
"""Of a plan that does not say: no tenant takes the whole machine."""


@dataclass(frozen=True, slots=True)
class QueueTerms:
    """What a plan says about the runs of its tenants."""

    plan: str
    runs_at_once: int
    weight: int
    """A tenant of weight 3 gets three runs for each one of a tenant of weight 1 while both wait."""

    def priority(self, unfinished: int) -> int:
        """The place of a run in the queue, higher is sooner: the more its tenant has there already, the later.

        Whoever queues two hundred runs delays a tenant that queues one by nothing but the runs that have started.
        """
        return -round(100 * unfinished / self.weight)


def terms_of(db: Database, tenant: str) -> QueueTerms:
    """By the plan of a tenant; by the default one for a tenant that is not known (yet)."""
    return _terms(limits_of_anybody(db, tenant))


def list_terms(db: Database) -> list[QueueTerms]:
    """Of every plan, the default one included."""
    return [_terms(limits) for limits in list_limits(db)]


def _terms(limits: Limits) -> QueueTerms:
    return QueueTerms(limits.plan, limits.concurrent_runs or _RUNS_AT_ONCE, limits.priority)
