"""Measures how long a killed worker, code server, daemon, or all of them block a KB, and that the next tick runs once.

Each trial has a home of its own where `kb ui` refreshes one KB every minute. In the middle of a crawl the processes are
killed with SIGKILL; `kb ui` itself is started again when it was among them, as a supervisor would. Printed are the
seconds until the run has ended, whoever ended it, its lease is free, and its pool slot. More than 120 s, or a tick that
did not run exactly once, and the exit status is 1.

Run it with: python -m benchmarks.liveness [--trials N] [--kill run-worker ...] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.deployment import Supervisor, descendants, fresh_home, kill, wait
from benchmarks.pages import Answer, PageServer

if TYPE_CHECKING:
    import dagster as dg

LIMIT_S = 120.0
TARGETS = ("run-worker", "code-server", "daemon", "all")
_KEY = "acme/docs"
_ASKED_AGAIN_S = 40.0
"""By then the sensor has evaluated a tick twice."""
_COMMANDS = {"code-server": "dagster api grpc", "daemon": "dagster._daemon run"}


@dataclass(frozen=True)
class Trial:
    """Seconds after the kill; None: not within twice the limit."""

    killed: str
    run_terminal_s: float | None
    lease_free_s: float | None
    slot_free_s: float | None
    how: str
    runs_of_next_tick: int

    @property
    def is_good(self) -> bool:
        """Whether everything was released in time and the next tick ran once."""
        seconds = (self.run_terminal_s, self.lease_free_s, self.slot_free_s)
        return all(s is not None and s <= LIMIT_S for s in seconds) and self.runs_of_next_tick == 1


class Site(PageServer):
    """A site of one page, which it holds back until told to send it."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        super().__init__(self._answer)

    def _answer(self, path: str, _agent: str) -> Answer:
        self.answers.wait(600)
        text = "<html><body><h1>Orchard</h1><p>Pears ripen after they are picked, in a cool dark cellar."
        return 200 if path == "/" else 404, "text/html", text


def victims(target: str, ui: int, worker: int) -> list[int]:
    """Return the processes to kill."""
    tree = list(descendants(ui))
    if target == "run-worker":
        return [worker]
    if target == "all":
        return [ui, *(pid for pid, _ in tree)]
    return [pid for pid, command in tree if _COMMANDS[target] in command]


def run_trial(target: str) -> Trial:
    """Kill on a fresh home, once."""
    folder = tempfile.TemporaryDirectory(prefix="kb-liveness-", ignore_cleanup_errors=True)
    with folder as home, fresh_home(Path(home)):
        from kb_pipeline.defs.instance import open_instance
        from kb_pipeline.settings import load_settings

        site = Site()
        _apply(site.url)
        with open_instance(load_settings()) as instance:
            supervisor = Supervisor(Path(home))
            try:
                return _measure(target, instance, supervisor, site)
            finally:
                supervisor.stop()
                site.stop()


def _measure(target: str, instance: dg.DagsterInstance, supervisor: Supervisor, site: Site) -> Trial:
    from kb_pipeline.control.coordination.leases import current_lease
    from kb_pipeline.control.runs.heartbeats import list_heartbeats
    from kb_pipeline.defs.resources import open_database
    from kb_pipeline.model import KbKey

    db, key = open_database(), KbKey.parse(_KEY)
    wait(lambda: _slots(instance) and list_heartbeats(db) and current_lease(db, key), 120)
    (beat,) = list_heartbeats(db)
    pids = victims(target, supervisor.process.pid, int(beat.process.partition("/")[0]))
    killed_at = time.time()
    for pid in pids:
        kill(pid)
    site.answers.set()
    free: dict[str, float] = {}
    checks: dict[str, Callable[[], bool]] = {
        "run": lambda: _run(instance, beat.run_id).is_finished,
        "lease": lambda: (lease := current_lease(db, key)) is None or lease.owner != beat.run_id,
        "slot": lambda: beat.run_id not in _slots(instance),
    }
    while len(free) < len(checks) and time.time() - killed_at < 2 * LIMIT_S:
        free |= {name: time.time() - killed_at for name, check in checks.items() if name not in free and check()}
        time.sleep(0.2)
    run, lease, slot = (round(free[name], 1) if name in free else None for name in checks)
    tick = _next_tick(time.time())
    wait(lambda: _count(instance, tick) and time.time() > tick + _ASKED_AGAIN_S, 150)
    return Trial(target, run, lease, slot, _run(instance, beat.run_id).status.value, _count(instance, tick))


def _slots(instance: dg.DagsterInstance) -> set[str]:
    return {slot.run_id for slot in instance.event_log_storage.get_concurrency_info("crawl").claimed_slots}


def _run(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRun:
    run = instance.get_run_by_id(run_id)
    assert run
    return run


def _next_tick(now: float) -> float:
    return (now // 60 + 1) * 60


def _count(instance: dg.DagsterInstance, tick: float) -> int:
    """Count the runs that the tick requested."""
    from datetime import UTC, datetime

    keys = [run.tags.get("dagster/run_key", "") for run in instance.get_runs()]
    return keys.count(f"{_KEY}@{datetime.fromtimestamp(tick, UTC).isoformat()}")


def _apply(url: str) -> None:
    from kb_pipeline.control.kbs.catalog import apply_spec
    from kb_pipeline.defs.resources import open_database
    from kb_pipeline.spec.kb_file import parse_spec

    source = {"name": "site", "type": "web", "start_urls": [url], "delay_s": 0, "sitemap": "off"}
    spec = {"tenant": "acme", "kb": "docs", "sources": [source], "schedule": {"cron": "* * * * *"},
            "embedding": {"model": "all-MiniLM-L6-v2"}}  # fmt: skip
    yaml = json.dumps(spec)  # JSON is YAML
    apply_spec(open_database(), parse_spec(yaml, "benchmark"), yaml, "benchmark")


def main() -> int:
    """Print one line a trial; return 1 if any missed the bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--kill", nargs="+", choices=TARGETS, default=TARGETS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    trials = []
    for target in options.kill:
        for _ in range(options.trials):
            trials.append(run_trial(target))
            print(json.dumps(asdict(trials[-1])), file=sys.stderr, flush=True)
    if options.json:
        print(json.dumps([asdict(trial) for trial in trials]))
    good = sum(trial.is_good for trial in trials)
    print(f"{good} of {len(trials)} kills: all freed within {LIMIT_S:.0f} s, the next tick ran once", file=sys.stderr)
    return 0 if good == len(trials) else 1


if __name__ == "__main__":
    sys.exit(main())
