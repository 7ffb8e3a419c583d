"""What is left to a caller of a rate of requests."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Allowance:
    """A rate that a request was counted by, after it was counted."""

    name: str
    """`tenant` for that of the plan, which all its tenant's callers share; `key` for that of the key."""
    quota: int
    """How many requests a window allows."""
    window_s: int
    remaining: int
    """How many may follow at once, as far as this process knows."""
    full_after_s: int
    """Until the whole quota may follow at once."""
