"""How many runs a tenant may have at once by its plan, and whose turn it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs.catalog import KbRecord
from kb_pipeline.control.tenancy.plans import PlanLimits, limits_of_anybody, list_limits

_RUNS_AT_ONCE = 2
"""Of a plan that does not say."""
_NICENESS = 10
"""Where cores are short, such a run gets about a tenth of what one of niceness 0 does."""


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """What a plan says about the runs of its tenants."""

    plan: str
    _runs_at_once: int
    weight: int
    """A tenant of weight 3 gets three runs for each one of a tenant of weight 1 while both wait."""

    def runs_at_once(self, host: int) -> int:
        """Of a tenant, where there is room for so many in all (-1: any number): one stays free for somebody else's."""
        return self._runs_at_once if host < 0 else max(1, min(self._runs_at_once, host - 1))

    def priority(self, unfinished: int) -> int:
        """Return a run's priority in the queue, higher is sooner: the more runs its tenant has queued, the lower.

        Whoever queues two hundred runs delays a tenant that queues one by nothing but the runs that have started.
        """
        return -round(100 * unfinished / self.weight)


def niceness(others: int) -> int:
    """How readily a run leaves the CPU to the others while its tenant has so many more, waiting or under way."""
    return _NICENESS if others else 0


def terms_of(db: Database, tenant: str) -> QueuePolicy:
    """By the plan of a tenant; by the default one for a tenant that is not known (yet)."""
    return _terms(limits_of_anybody(db, tenant))


def list_terms(db: Database) -> list[QueuePolicy]:
    """Of every plan, the default one included."""
    return [_terms(limits) for limits in list_limits(db)]


def round_robin(kbs: Iterable[KbRecord]) -> list[KbRecord]:
    """One KB of each tenant, then a second one of each, and so on, a tenant's own by name.

    Where there is no room for all, all tenants have some.
    """
    seen: Counter[str] = Counter()
    turns: list[tuple[int, KbRecord]] = []
    for kb in sorted(kbs, key=lambda kb: str(kb.key)):  # not by the database, whose order of "-" and "a" may be another
        seen[kb.key.tenant] += 1
        turns.append((seen[kb.key.tenant], kb))
    return [kb for _, kb in sorted(turns, key=lambda turn: turn[0])]


def _terms(limits: PlanLimits) -> QueuePolicy:
    return QueuePolicy(limits.plan, limits.concurrent_runs or _RUNS_AT_ONCE, limits.priority)
