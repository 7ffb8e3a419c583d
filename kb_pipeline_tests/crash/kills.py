"""Which of all the places where a process can be killed a run of the tests tries."""

from __future__ import annotations

import os
from collections.abc import Sequence

EVERY_KILL = "KB_TEST_EVERY_KILL"
"""Set to 1 (`make bench` does), all of them; else every fourth one: these are the longest tests of the suite."""


def spread(steps: Sequence[str]) -> Sequence[str]:
    """Return the steps to be killed at; the last one is always among them."""
    return steps if os.environ.get(EVERY_KILL) == "1" else steps[::-4][::-1]
