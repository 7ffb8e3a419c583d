"""Measures how fast a rollback of many chunks is, and whether an older version still gives the same results.

The tables are those of `benchmarks.disk`: real except for the model, whose vectors are random, seeded by the text's
hash. The rollback is the command that a user types, timed as a whole process.

Run it with: python -m benchmarks.versions [--pages 1600] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.disk import Home, make_page
from kb_pipeline.control.kbs.versions import manifest_as_of
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.index.search import Mode, search_version

CEILING_S = 2.0
"""The most seconds that a rollback of 50,000 chunks may take, without the start of a process."""

_ROUNDS = 3
_QUERIES = 20
_MODES: tuple[Mode, ...] = ("hybrid", "vector", "keyword")


def measure(pages: int, folder: Path) -> dict[str, Any]:
    """Publish two versions, roll back and forth, and repeat the queries that the first one got when it was live."""
    home = Home(folder)
    home.fetch({_key(number): make_page(number, 0) for number in range(pages)})
    home.refresh("first")
    answers = _answers(home, "1")
    home.fetch({_key(number): make_page(number, 1) for number in range(0, pages, 100)})
    home.refresh("second")
    before = _vectors(folder)
    seconds = [_rollback(folder, number) for _ in range(_ROUNDS) for number in ("1", "2")]
    start = statistics.median(_timed(folder, "versions", "acme/disk", "--json") for _ in range(_ROUNDS))
    written = _vectors(folder) - before
    home.tidy_cache()
    home.store.tables.open("chunks").maintenance.cleanup(timedelta(0))
    return {
        "chunks": manifest_as_of(home.db, home.spec.key, "1").counts.chunks,
        "process_start_s": round(start, 2),
        "rollback_s": round(statistics.median(seconds), 2),
        "beyond_start_s": round(statistics.median(seconds) - start, 2),
        "vectors_written": written,
        "same_answers": _answers(Home(folder), "1") == answers,
    }


def _answers(home: Home, as_of: str) -> list[Any]:
    version = VersionReader(home.store, manifest_as_of(home.db, home.spec.key, as_of))
    queries = [make_page(number, 0)[600:660] for number in range(_QUERIES)]
    embed = home.embedder.embed_query
    asked = ((query, mode) for query in queries for mode in _MODES)
    hits = (search_version(version, query, embed, mode=mode) for query, mode in asked)
    return [[(hit.chunk_id, hit.score) for hit in its] for its in hits]


def _rollback(folder: Path, number: str) -> float:
    return _timed(folder, "rollback", "acme/disk", number, "--json")


def _timed(folder: Path, *arguments: str) -> float:
    started = time.monotonic()
    command = [sys.executable, "-m", "kb_pipeline", *arguments]
    subprocess.run(command, env=os.environ | {"KB_HOME": str(folder)}, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def _vectors(folder: Path) -> int:
    return sum(1 for _ in folder.glob("data/**/.vectors/**/data/*.lance"))


def _key(number: int) -> str:
    return f"http://x.example/{number}"


def main() -> int:
    """Print the figures; return 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--pages", type=int, default=1600)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options.pages, Path(folder))
    print(json.dumps(result) if options.json else "\n".join(f"{name:20}{value}" for name, value in result.items()))
    good = result["beyond_start_s"] <= CEILING_S and result["vectors_written"] == 0 and result["same_answers"]
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
