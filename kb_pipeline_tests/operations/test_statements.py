"""How often a step of a refresh asks the control plane: each thing once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from kb_pipeline.operations.refresh import RefreshRun, open_refresh_run
from kb_pipeline_tests.operations.home import KEY, Home, quick_refreshes
from kb_pipeline_tests.site import plant_orchard, serve_site

STEPS = ("fetch", "clean", "chunk", "embed", "build_candidate", "publish")


@pytest.fixture(scope="module", autouse=True)
def quickly() -> Iterator[None]:
    with quick_refreshes():
        yield


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count the SELECTs of each table within the block; others are counted as `write`."""
    found: Counter[str] = Counter()

    def count(*arguments: Any) -> None:
        statement = str(arguments[2])
        tables = re.findall(r"\bFROM (\w+)", statement) if statement.startswith("SELECT") else ["write"]
        found.update(tables[:1] if not statement.startswith("BEGIN") else [])

    event.listen(Engine, "before_cursor_execute", count)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", count)


def step(home: Home, name: str, run_id: str) -> Counter[str]:
    """Do one step as Dagster does, in a block of its own."""
    with counted() as found, open_refresh_run(home.settings, home.db, KEY, run_id) as kb:
        getattr(RefreshRun, name)(kb)
    return found


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> dict[str, Counter[str]]:
    """The statements of each step of a refresh that finds nothing new."""
    home = Home(tmp_path_factory.mktemp("statements") / "home", models_dir)
    with serve_site() as site:
        plant_orchard(site)
        home.apply(site)
        home.refresh()
        return {name: step(home, name, "run-2") for name in STEPS}


@pytest.mark.parametrize("name", ["clean", "chunk", "embed"])
def test_a_step_reads_its_kb_once_and_no_flags(steps: dict[str, Counter[str]], name: str) -> None:
    found = steps[name]
    reads = 2 if name == "clean" else 1  # it counts what the live version has and the next one will not
    assert (found["kbs"], found["flags"], found["flag_overrides"], found["versions"]) == (reads, 0, 0, 0)
    assert found["tenants"] <= 2, "whether it is active, and its plan where the stage's result counts"


def test_only_the_first_step_of_a_run_reads_the_flags(steps: dict[str, Counter[str]]) -> None:
    assert [name for name in STEPS if steps[name]["flags"]] == ["fetch"]


def test_the_manifest_of_the_live_version_is_read_once(steps: dict[str, Counter[str]]) -> None:
    # One SELECT joins a KB with its live version: it counts as one of `kbs`.
    assert (steps["build_candidate"]["kbs"], steps["publish"]["kbs"]) == (2, 2)


def test_a_step_without_work_asks_the_control_plane_little(steps: dict[str, Counter[str]]) -> None:
    # A step tells its job where it is. Progress and the lease's renewal go by the clock: a slow machine has a few more.
    most = {"fetch": 80, "clean": 27, "chunk": 23, "embed": 22, "build_candidate": 25, "publish": 21}
    asked = {name: found.total() for name, found in steps.items()}
    assert {name: count for name, count in asked.items() if count > most[name]} == {}
