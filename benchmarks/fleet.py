"""Measures what looks at all KBs with thousands of them: the catalogue's sensor, the cron sensor, `kb status`.

Run it with: python -m benchmarks.fleet [--tenants N] [--kbs N] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TypeVar

BARS_S = {"catalogue_sync": 10.0, "due_refreshes": 1.0, "kb_status": 1.0}
_BAR_SIZE = 5000
_Result = TypeVar("_Result")
_SPEC = """tenant: {tenant}
kb: {kb}
sources: [{{name: site, type: web, start_urls: ["https://{tenant}.example/{kb}/"]}}]
schedule: {{cron: "{minute} * * * *", timezone: Europe/Berlin}}
"""


def fill(tenants: int, kbs: int) -> None:
    """Apply so many KBs in all, spread evenly over the tenants."""
    from kb_pipeline.control.kbs.catalog import apply_spec
    from kb_pipeline.defs.resources import open_database
    from kb_pipeline.spec.kb_file import parse_spec

    for number in range(kbs):
        yaml = _SPEC.format(tenant=f"tenant-{number % tenants}", kb=f"kb-{number}", minute=number % 60)
        apply_spec(open_database(), parse_spec(yaml, "fleet"), yaml, "benchmark")


def measure() -> dict[str, float]:
    """Return the seconds of each, in the order in which an installation runs them."""
    import dagster as dg

    from kb_pipeline.definitions import defs
    from kb_pipeline.defs.instance import open_instance
    from kb_pipeline.defs.sensors import catalogue_sync, request_due
    from kb_pipeline.settings import load_settings

    with open_instance(load_settings()) as instance:

        def context(cursor: str | None = None) -> dg.SensorEvaluationContext:
            return dg.build_sensor_context(instance=instance, definitions=defs, cursor=cursor)

        def sync() -> dg.SensorResult:
            result = catalogue_sync(context())
            assert isinstance(result, dg.SensorResult)
            return result

        seconds, synced = _timed(sync)
        for change in synced.dynamic_partitions_requests or []:
            instance.add_dynamic_partitions("knowledge_bases", change.partition_keys)
        now = datetime.now(UTC) + timedelta(days=1)
        cursor = request_due(context(), now).cursor
        found = {"catalogue_sync": seconds}
        found["catalogue_sync_again"], _ = _timed(sync)
        found["due_refreshes"], due = _timed(lambda: request_due(context(cursor), now + timedelta(seconds=60)))
        found["due"] = len(due.run_requests or [])
    command = [sys.executable, "-m", "kb_pipeline", "status", "tenant-0/kb-0"]
    found["kb_status"], _ = _timed(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))
    return found


def _timed(work: Callable[[], _Result]) -> tuple[float, _Result]:
    started = monotonic()
    result = work()
    return round(monotonic() - started, 3), result


def main() -> int:
    """Print the seconds of each; return 1 when one is over its bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenants", type=int, default=500)
    parser.add_argument("--kbs", type=int, default=_BAR_SIZE)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["KB_HOME"] = home
        fill(options.tenants, options.kbs)
        found = measure()
    print(json.dumps(found) if options.json else "\n".join(f"{name:22} {value}" for name, value in found.items()))
    return 0 if all(found[name] <= bar for name, bar in BARS_S.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
