"""What Ctrl-C does, in a process of its own for each module of cases.

Signals belong to a whole process. A worker that runs tests for half an hour has libraries loaded that change their
handling, and one that they end takes the tests after it along.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
CASES = {"interrupt_cases.py": 9, "control/db/interrupt_cases.py": 2, "operations/interrupt_cases.py": 8}
"""How many tests each module has."""


def test_every_module_of_cases_is_run() -> None:
    assert CASES.keys() == {str(path.relative_to(TESTS)) for path in TESTS.rglob("interrupt_cases.py")}


@pytest.mark.upgrade("psycopg")
@pytest.mark.parametrize("cases", CASES)
def test_interrupts_do_no_harm(cases: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", str(TESTS / cases)]
    done = subprocess.run(command, cwd=TESTS.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    told = re.search(r"^(\d+) passed(, \d+ warnings?)? in", done.stdout, re.MULTILINE)
    assert told is not None, done.stdout
    assert int(told[1]) == CASES[cases]
