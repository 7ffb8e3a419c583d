"""Measures how much a tenant that queues hundreds of runs delays another tenant's run, on a whole installation.

`kb ui` runs on a fresh home. In turns, with nothing else to do and with hundreds of runs of the tenant `big` queued and
some of them under way, the tenant `small` gets a new KB, always of the same size, and the catalogue's sensor asks for
its first build. Seconds are from then to the run's end. A median of more than twice the time alone, and the exit status
is 1. What the queue costs the daemon is measured apart: one look at it with 200 and with 2000 runs waiting.

Run it with: python -m benchmarks.fairness [--queued N] [--trials N] [--pages N] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.deployment import Supervisor, fresh_home, wait
from benchmarks.refresh import generate, served

if TYPE_CHECKING:
    import dagster as dg

LIMIT = 2.0
_LOOKED_AT = (200, 2000)
_LOOK_LIMIT_S = 2.0
"""The daemon's interval: a longer decision delays the queue itself."""
_MADE_UP = 30
"""Runs that may end while the others are being queued."""
_PATIENCE_S = 900.0
_SAME_SITES = 20
"""Sites of the KBs of `big`: enough that no run finds much of its text in its tenant's cache."""


@dataclass(frozen=True)
class Timed:
    """Seconds of one run: from the new KB until it was requested; from then until it had a worker, and to its end."""

    asked_s: float
    waited_s: float
    seconds: float
    queued: int
    running: int
    """Runs of the other tenant when it was launched."""


@dataclass(frozen=True)
class Trial:
    """One run on an idle installation, one beside the other tenant's."""

    alone: Timed
    loaded: Timed

    @property
    def ratio(self) -> float:
        """How many times longer it took."""
        return self.loaded.seconds / self.alone.seconds


class Installation:
    """Two tenants, each with sites of its own, on a running `kb ui`."""

    def __init__(self, instance: dg.DagsterInstance, sites: dict[str, str]) -> None:
        self._instance, self._sites = instance, sites
        self._made: dict[str, int] = {}

    def apply(self, tenant: str, count: int) -> list[str]:
        """Apply so many new KBs, whose first builds the catalogue's sensor requests; return their keys."""
        from kb_pipeline.control.kbs.catalog import apply_spec
        from kb_pipeline.defs.resources import open_database
        from kb_pipeline.spec.kb_file import parse_spec

        first = self._made.get(tenant, 0)
        self._made[tenant] = first + count
        for number in range(first, first + count):
            start = f"{self._sites[tenant]}/{number % _SAME_SITES}/index.html"
            source = {
                "name": "site",
                "type": "web",
                "start_urls": [start],
                "scope": "prefix",
                "delay_s": 0,
                "sitemap": "off",
            }
            model = {"model": "all-MiniLM-L6-v2"}
            spec = {"tenant": tenant, "kb": f"kb-{number}", "sources": [source], "embedding": model}
            yaml = json.dumps(spec)  # JSON is YAML
            apply_spec(open_database(), parse_spec(yaml, "benchmark"), yaml, "benchmark")
        return [f"{tenant}/kb-{number}" for number in range(first, first + count)]

    def time_one(self) -> Timed:
        """Give `small` a new KB, and wait for the end of its first build."""
        import dagster as dg

        queued, running = (self.count("big", *statuses) for statuses in (_WAITING, _RUNNING))
        applied = time.time()
        (key,) = self.apply("small", 1)
        if not wait(lambda: (found := self._first_run(key)) and found.end_time, _PATIENCE_S):
            raise TimeoutError(f"the first build of {key} did not end")
        record = self._first_run(key)
        assert record
        if record.dagster_run.status != dg.DagsterRunStatus.SUCCESS:
            raise RuntimeError(f"the first build of {key}: {record.dagster_run.status.value}")
        asked = record.create_timestamp.timestamp()
        waited_s, seconds = ((at or 0) - asked for at in (record.start_time, record.end_time))
        return Timed(round(asked - applied, 2), round(waited_s, 2), round(seconds, 2), queued, running)

    def count(self, tenant: str, *statuses: str) -> int:
        """Count the tenant's runs in these states."""
        import dagster as dg

        chosen = [dg.DagsterRunStatus(status) for status in statuses]
        return self._instance.get_runs_count(dg.RunsFilter(tags={"kb/tenant": tenant}, statuses=chosen))

    def load(self, queued: int) -> None:
        """Queue runs of `big` until so many wait while others have a worker; replace those that end meanwhile."""
        while (missing := queued - self.count("big", *_WAITING)) > 0:
            self.apply("big", missing + _MADE_UP)
            if not wait(lambda: self.count("big") >= self._made["big"] and self.count("big", "STARTED"), _PATIENCE_S):
                raise TimeoutError(f"not {queued} runs were queued and some started")

    def settle(self) -> None:
        """Cancel the queued runs, and wait until the running ones have ended."""
        import dagster as dg

        for run in self._instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED])):
            self._instance.run_coordinator.cancel_run(run.run_id)
        if not wait(lambda: not sum(self.count(t, *_WAITING, *_RUNNING) for t in self._sites), _PATIENCE_S):
            raise TimeoutError("the runs under way did not end")

    def _first_run(self, key: str) -> dg.RunRecord | None:
        import dagster as dg

        found = self._instance.get_run_records(dg.RunsFilter(tags={"dagster/partition": key}), limit=1, ascending=True)
        return found[0] if found else None


_WAITING = ("QUEUED",)
_RUNNING = ("STARTING", "STARTED", "CANCELING")


def measure(queued: int, trials: int, pages: int) -> list[Trial]:
    """Run the trials on the same installation, one after another."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="kb-fairness-", ignore_cleanup_errors=True))
        stack.enter_context(fresh_home(Path(folder) / "home"))
        sites = {}
        for seed, (tenant, host) in enumerate((("small", "127.0.0.2"), ("big", "127.0.0.3"))):
            root = Path(folder) / tenant
            for number in range(_SAME_SITES):
                (root / str(number)).mkdir(parents=True)
                generate(root / str(number), pages, seed=1 + seed * _SAME_SITES + number)
            sites[tenant] = stack.enter_context(served(root, host))

        from kb_pipeline.defs.instance import open_instance
        from kb_pipeline.settings import load_settings

        instance = stack.enter_context(open_instance(load_settings()))
        stack.callback(Supervisor(Path(folder)).stop)
        installation = Installation(instance, sites)
        _warm_up(installation)
        return [_trial(installation, queued) for _ in range(trials)]


def _warm_up(installation: Installation) -> None:
    """Run first builds, which convert the model, fill the disk cache, and show that all services are up."""
    for tenant in ("small", "big"):
        installation.apply(tenant, 1)
    if not wait(lambda: all(installation.count(tenant, "SUCCESS") for tenant in ("small", "big")), _PATIENCE_S):
        raise TimeoutError("the first builds did not end")
    installation.settle()


def _trial(installation: Installation, queued: int) -> Trial:
    alone = installation.time_one()
    installation.settle()
    installation.load(queued)
    loaded = installation.time_one()
    installation.settle()
    trial = Trial(alone, loaded)
    print(json.dumps(asdict(trial) | {"ratio": round(trial.ratio, 2)}), file=sys.stderr, flush=True)
    return trial


def look_at_queue(queued: int) -> float:
    """Return the seconds that the daemon needs to decide what to start with so many runs of one tenant waiting."""
    from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

    from kb_pipeline.defs.instance import open_instance, prepare_pools
    from kb_pipeline.settings import load_settings

    with ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="kb-fairness-"))
        stack.enter_context(fresh_home(Path(home)))
        instance = stack.enter_context(open_instance(load_settings()))
        prepare_pools(instance)
        _fill(instance, queued)
        daemon = QueuedRunCoordinatorDaemon(interval_seconds=2)
        started = time.monotonic()
        daemon._get_runs_to_dequeue(instance, instance.get_concurrency_config(), None)
        return round(time.monotonic() - started, 3)


def _fill(instance: dg.DagsterInstance, queued: int) -> None:
    """Write queued runs directly into the storage: what is measured does not read their events."""
    import dagster as dg
    from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
    from dagster._core.storage.dagster_run import DagsterRun, RunOpConcurrency
    from dagster._core.utils import make_new_run_id

    from kb_pipeline.defs.instance import POOLS

    origin = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("kb"), "kb"), "refresh_kb")
    pools = RunOpConcurrency(root_key_counts={"crawl": 1}, has_unconstrained_root_nodes=False, all_pools=set(POOLS))
    for number in range(queued):
        tags = {
            "kb/tenant": "big",
            "kb/tenant.default": "big",
            "kb/kb": f"kb-{number}",
            "dagster/partition": f"big/kb-{number}",
            "dagster/priority": str(-100 * number),
        }
        run = DagsterRun(
            job_name="refresh_kb",
            run_id=make_new_run_id(),
            status=dg.DagsterRunStatus.QUEUED,
            tags=tags,
            remote_job_origin=origin,
            run_op_concurrency=pools,
        )
        instance.run_storage.add_run(run)


def summary(trials: Sequence[Trial], looks: dict[int, float]) -> dict[str, Any]:
    """Return the figures, with a message for each that falls short."""
    ratios = [trial.ratio for trial in trials]
    wrong = [f"a look at {queued} waiting runs takes {s} s" for queued, s in looks.items() if s > _LOOK_LIMIT_S]
    if ratios and statistics.median(ratios) > LIMIT:
        wrong.append(f"the median is {statistics.median(ratios):.2f}, at most {LIMIT:g} is wanted")
    return {
        "alone_s": statistics.median(trial.alone.seconds for trial in trials),
        "loaded_s": statistics.median(trial.loaded.seconds for trial in trials),
        "median": round(statistics.median(ratios), 2),
        "worst": round(max(ratios), 2),
        "look_s": {str(queued): seconds for queued, seconds in looks.items()},
        "problems": wrong,
    }


def main() -> int:
    """Print the figures; return 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queued", type=int, default=200)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--pages", type=int, default=40, help="of a KB")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    trials = measure(options.queued, options.trials, options.pages)
    looks = {queued: look_at_queue(queued) for queued in _LOOKED_AT}
    found = summary(trials, looks)
    if options.json:
        print(json.dumps(found | {"trials": [asdict(trial) for trial in trials]}))
    else:
        print("\n".join(f"{name:10}{value}" for name, value in found.items() if name != "problems"))
        print("\n".join(found["problems"]) or "every bar is kept")
    return 1 if found["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
