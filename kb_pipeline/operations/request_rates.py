"""Admits requests within the rates of their tenant's plan and of their key, for all processes together.

No library does this over the control plane's database: `limits` counts in Redis, Memcached, MongoDB or one process, and
`pyrate-limiter`'s SQL buckets hold a row for each request.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cachetools import TTLCache

from kb_pipeline.allowance import Allowance
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.metering.rate_limits import OF_TENANT, WINDOW_S, take_tokens
from kb_pipeline.control.tenancy.plans import limits_of
from kb_pipeline.errors import RateLimited
from kb_pipeline.operations.authorization import Caller

_BLOCKS_A_WINDOW = 60
"""A process takes about a second's tokens at a time: one write a second at full rate, whatever the rate is."""
_HOLD_S = 2.0
"""Tokens that a process has not spent by then go back before it takes others."""
_LONGEST_WAIT_S = 1.0
"""How long an empty bucket is believed to be empty without being looked at."""
_PLAN_S = 5.0
"""How long a plan's rate is believed."""
_MOST_BUCKETS = 4096


@dataclass
class _Block:
    """The tokens of one bucket that this process may spend."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    unspent: int = 0
    left: float = 0.0
    """What was left in the bucket."""
    taken_at: float = float("-inf")
    empty_until: float = float("-inf")


class RequestRates:
    """Rates of all callers of one process; safe in many threads."""

    def __init__(self, db: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._db, self._clock = db, clock
        self._lock = threading.Lock()
        self._blocks: dict[tuple[str, str], _Block] = {}
        self._plans: TTLCache[str, int | None] = TTLCache(_MOST_BUCKETS, _PLAN_S, clock)

    def admit(self, caller: Caller) -> tuple[Allowance, ...]:
        """Count one request of a caller; return what is left of each rate that it is held to, the narrowest first.

        Raises:
            RateLimited: there were too many within the last minute.
        """
        if caller.tenant is None or caller.holder is None:
            return ()
        counted: list[tuple[_Block, Allowance]] = []
        for name, bucket, per_minute in self._rates(caller.tenant, caller.holder.id, caller.holder.requests_per_minute):
            block = self._block(caller.tenant, bucket)
            try:
                counted.append((block, self._spend(block, caller.tenant, name, bucket, per_minute)))
            except RateLimited:
                for spent, _ in counted:  # the request does not count
                    with spent.lock:
                        spent.unspent += 1
                raise
        return tuple(allowance for _, allowance in counted)

    def _rates(self, tenant: str, key_id: str, of_key: int | None) -> list[tuple[str, str, int]]:
        with self._lock:
            known = tenant in self._plans
            of_plan = self._plans.get(tenant)
        if not known:
            of_plan = limits_of(self._db, tenant).requests_per_minute
            with self._lock:
                self._plans[tenant] = of_plan
        rates = [("key", key_id, of_key), ("tenant", OF_TENANT, of_plan)]
        return [(name, bucket, rate) for name, bucket, rate in rates if rate is not None]

    def _block(self, tenant: str, bucket: str) -> _Block:
        with self._lock:
            if len(self._blocks) >= _MOST_BUCKETS:
                stale = self._clock() - 2 * WINDOW_S
                self._blocks = {key: each for key, each in self._blocks.items() if each.taken_at > stale}
            return self._blocks.setdefault((tenant, bucket), _Block())

    def _spend(self, block: _Block, tenant: str, name: str, bucket: str, per_minute: int) -> Allowance:
        with block.lock:  # while one thread takes the next block, the others of this bucket wait for it
            now = self._clock()
            if block.unspent == 0 or now - block.taken_at > _HOLD_S:
                if now >= block.empty_until:
                    self._take(block, tenant, bucket, per_minute, now)
                if block.unspent == 0:
                    wait_s = max(block.empty_until - now, (1 - block.left) * WINDOW_S / per_minute)
                    raise RateLimited(tenant, _allowance(name, per_minute, 0.0), wait_s)
            block.unspent -= 1
            return _allowance(name, per_minute, block.left + block.unspent)

    def _take(self, block: _Block, tenant: str, bucket: str, per_minute: int, now: float) -> None:
        wanted = max(1, per_minute // _BLOCKS_A_WINDOW)
        taken = take_tokens(self._db, tenant, bucket, per_minute, wanted, block.unspent)
        block.unspent, block.left, block.taken_at = taken.count, taken.left, now
        if taken.count == 0:
            block.empty_until = now + min(_LONGEST_WAIT_S, (1 - taken.left) * WINDOW_S / per_minute)


def _allowance(name: str, per_minute: int, left: float) -> Allowance:
    full_after_s = math.ceil((per_minute - left) * WINDOW_S / per_minute)
    return Allowance(name, per_minute, WINDOW_S, math.floor(left), full_after_s)
