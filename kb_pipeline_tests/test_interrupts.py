"""Ctrl-C waits for the end of a short piece of work, and is never lost: `interrupt_cases`, in a process of their own.

Signals belong to a whole process. A worker that runs tests for half an hour has libraries loaded that change their
handling, and one that they end takes the tests after it along.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CASES = Path(__file__).with_name("interrupt_cases.py")


def test_interrupts_wait_for_the_block_and_are_never_lost() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", str(CASES)]
    done = subprocess.run(command, cwd=CASES.parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "9 passed" in done.stdout
