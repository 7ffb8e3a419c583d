"""Measures a search through the Python API, in one process that keeps models and versions open.

The KB is that of `benchmarks.disk`: real tables and indexes over generated pages, vectors drawn from hashes. The
query's vector is the real model's, so that the time is that of a whole search: control plane, model, both rankings.

Run it with: python -m benchmarks.search [--pages 380] [--searches 100] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import kb_pipeline
from benchmarks.disk import Home, make_page
from kb_pipeline.index.search import Mode
from kb_pipeline.installation import Kb

CEILING_MS = 25.0
"""The most milliseconds that half of all hybrid searches over 12,000 chunks may take, after the first."""

_MODES: tuple[Mode, ...] = ("hybrid", "vector", "keyword")


def measure(pages: int, searches: int, folder: Path) -> dict[str, float]:
    """Return the number of chunks and, in milliseconds, the first search and the median of the later ones by mode."""
    made = Home(folder)
    made.fetch({f"http://x.example/{number}": make_page(number, 0) for number in range(pages)})
    made.refresh("first")
    with kb_pipeline.open(settings=made.settings) as home:
        kb = home.kb(made.spec.key)
        figures = {"chunks": float(kb.status().chunks), "first_ms": _timed(kb, 0, "hybrid")}
        for mode in _MODES:
            times = [_timed(kb, number, mode) for number in range(1, searches + 1)]
            figures[f"{mode}_p50_ms"] = statistics.median(times)
        started = time.monotonic()
        for _ in range(searches):
            kb.status()
        figures["status_ms"] = (time.monotonic() - started) / searches * 1000
    return {name: round(figure, 1) for name, figure in figures.items()}


def _timed(kb: Kb, number: int, mode: Mode) -> float:
    query = make_page(number, 0)[600:660]
    started = time.monotonic()
    found = kb.search(query, mode=mode)
    elapsed = time.monotonic() - started
    assert found, "every query is a part of a page"
    return elapsed * 1000


def main() -> int:
    """Print the figures; return 1 when the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--pages", type=int, default=380)
    parser.add_argument("--searches", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options.pages, options.searches, Path(folder))
    print(json.dumps(figures) if options.json else "\n".join(f"{name:16}{value}" for name, value in figures.items()))
    return 0 if figures["hybrid_p50_ms"] <= CEILING_MS else 1


if __name__ == "__main__":
    sys.exit(main())
