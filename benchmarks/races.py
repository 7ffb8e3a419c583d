"""Checks that exactly one of two to four simultaneous refreshes of one KB publishes, on both databases.

Each race is run by processes that wait at the start, after every page of the site has changed. One has to publish the
next version; the others have to be told who writes, or, if they begin when it has ended, find nothing changed. No row
of any table may be there twice.

Run it with: python -m benchmarks.races [--races N] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from benchmarks.deployment import fresh_home
from benchmarks.pages import Answer, PageServer
from benchmarks.politeness import postgres

_KEY = "acme/docs"
_PAGES = 4
_RUNNERS = 4
_IDS = {"pages": "key", "documents": "document_id", "chunks": "chunk_id"}


class Site(PageServer):
    """A site of a few pages that all change when `number` does."""

    def __init__(self) -> None:
        self.number = 0
        super().__init__(self._answer)

    def _answer(self, path: str, _agent: str) -> Answer:
        links = "".join(f'<a href="/{page}">Page {page}</a> ' for page in range(_PAGES))
        text = f"Edition {self.number} of the handbook of our orchard, page {path}: pears ripen late."
        page = f"<html><body><main><h1>{path}</h1><p>{text}</p>{links}</main></body></html>"
        return 404 if path.endswith((".txt", ".xml")) else 200, "text/html", page


class Runner:
    """A process that refreshes the KB on command."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "benchmarks.races", "--runner"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._in, self._out = cast(IO[str], self._process.stdin), cast(IO[str], self._process.stdout)

    def begin(self, run_id: str) -> None:
        """Start a refresh without waiting for its end."""
        self._in.write(f"{run_id}\n")
        self._in.flush()

    def end(self) -> str:
        """Wait for the end of the refresh; return its status or the name of its error."""
        return self._out.readline().strip()

    def stop(self) -> None:
        """End the process."""
        self._in.close()
        self._process.wait()


def race(races: int) -> dict[str, Any]:
    """Run so many races on the home of the environment; return their results."""
    from kb_pipeline.control.kbs.catalog import apply_spec
    from kb_pipeline.defs.resources import open_database
    from kb_pipeline.spec.kb_file import parse_spec

    site = Site()
    source = {"name": "site", "type": "web", "start_urls": [site.url], "delay_s": 0, "sitemap": "off"}
    spec = {"tenant": "acme", "kb": "docs", "sources": [source], "embedding": {"model": "all-MiniLM-L6-v2"},
            "publish": {"min_recall": 0}}  # fmt: skip
    yaml = json.dumps(spec)  # JSON is YAML
    apply_spec(open_database(), parse_spec(yaml, "benchmark"), yaml, "benchmark")
    with _runners() as runners:
        outcomes: Counter[str] = Counter()
        good = 0
        for number in range(1, races + 1):
            site.number = number
            racing = runners[: 2 + number % 3]
            for place, runner in enumerate(racing):
                runner.begin(f"race-{number}-{place}")
            ended = [runner.end() for runner in racing]
            outcomes.update(ended)
            is_good = ended.count("ready") == 1 and set(ended) <= {"ready", "LeaseHeld", "unchanged"}
            good += is_good and _is_sound(number)
    site.stop()
    return {"races": races, "one_published": good, "outcomes": dict(outcomes)}


def _is_sound(number: int) -> bool:
    """Return whether each race published one version, and no row is stored twice."""
    from kb_pipeline.control.kbs.versions import live_manifest
    from kb_pipeline.defs.resources import open_database
    from kb_pipeline.model import KbKey
    from kb_pipeline.settings import load_settings
    from kb_pipeline.store.kb_store import KbStore
    from kb_pipeline.store.paths import KbPaths

    key = KbKey.parse(_KEY)
    tables = KbStore(KbPaths(load_settings().data_dir, key)).tables
    columns = [tables.open(name).read_columns([column])[column] for name, column in _IDS.items()]
    return bool(live_manifest(open_database(), key).version == number and all(c.is_unique().all() for c in columns))


@contextmanager
def _runners() -> Iterator[list[Runner]]:
    runners = [Runner() for _ in range(_RUNNERS)]
    try:
        yield runners
    finally:
        for runner in runners:
            runner.stop()


def _run_when_told() -> None:
    from kb_pipeline.control.runs.refreshes import get_refresh
    from kb_pipeline.defs.resources import open_database
    from kb_pipeline.errors import KbError
    from kb_pipeline.model import KbKey
    from kb_pipeline.operations.refresh import open_refresh_run
    from kb_pipeline.settings import load_settings

    db, key = open_database(), KbKey.parse(_KEY)
    for line in sys.stdin:
        run_id = line.strip()
        try:
            # Whether the new text still matches the old probe queries is not tested here.
            with open_refresh_run(load_settings(), db, key, run_id, force=True) as kb:
                for stage in (kb.fetch, kb.clean, kb.chunk, kb.embed):
                    stage()
                kb.build_candidate()
                kb.publish()
            row = get_refresh(db, key, run_id)
            ended = row.status if row else "nothing"
        except KbError as error:
            ended = type(error).__name__
        sys.stdout.write(f"{ended}\n")
        sys.stdout.flush()


def main() -> int:
    """Print the results on each database; return 1 unless exactly one refresh published in each race."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--races", type=int, default=100)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--runner", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.runner:
        _run_when_told()
        return 0
    found = {}
    with tempfile.TemporaryDirectory() as folder, fresh_home(Path(folder)):
        found["sqlite"] = race(options.races)
    with tempfile.TemporaryDirectory() as folder, postgres() as url, fresh_home(Path(folder)):
        os.environ["KB_DATABASE_URL"] = url
        found["postgres"] = race(options.races)
    for name, result in found.items():
        print(json.dumps({name: result}) if options.json else f"{name:10} {result}")
    return 0 if all(each["one_published"] == each["races"] for each in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
