"""Measures `kb serve` beside the Python API on the same KB: what HTTP adds, many clients at once, memory, a publish.

The KB is that of `benchmarks.disk`: real tables and indexes over generated pages, vectors drawn from hashes; the
query's vector is the real model's. Searches in this process and over HTTP alternate, so that other load slows both.
What is looked for while versions are published says its revision on every page: an answer that mixes versions, or names
another one than its text is of, is counted.

Run it with: python -m benchmarks.service [--pages 380] [--searches 200] [--requests 10000] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp

import kb_pipeline
from benchmarks.disk import Home, make_page
from kb_pipeline.control.tenancy.api_keys import create_key
from kb_pipeline.settings import as_environment

ADDED_MS = 3.0
"""The most milliseconds that HTTP may add to half of all searches."""
SPEED_UP = 1.6
"""The least ratio of the throughput of CLIENTS at once to that of one."""
GROWTH = 1.05
"""The most that the process may grow by over all requests, after the first thousand."""
FIRST_ANSWER_S = 3.0
"""The most seconds from the start of the process to its first answer."""
CLIENTS = 32
_REVISION = re.compile(r"revision(\d+)x")


def marked_page(number: int, revision: int) -> str:
    """Return a page that says its revision in its text."""
    return make_page(number, 0).replace("</h1>", f"</h1><p>This page is of revision{revision}x, number {number}.</p>")


@contextmanager
def serving(home: Home) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run `kb serve` over a home; yield its address and process."""
    environment = os.environ | as_environment(home.settings)
    command = [sys.executable, "-m", "kb_pipeline", "serve", "--port", "0"]
    with subprocess.Popen(command, env=environment, text=True, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        try:
            yield process.stderr.readline().split()[-1], process
        finally:
            process.terminate()


class Load:
    """Searches over HTTP with a number of clients at once, and what is wrong with the answers."""

    def __init__(self, address: str, key: str, kb: str) -> None:
        self._url, self._headers = f"{address}/api/v1/kbs/{kb}/search", {"Authorization": f"Bearer {key}"}
        self.errors = self.mixed = 0

    async def run(self, clients: int, requests: int, query: str | None = None) -> float:
        """Send so many requests; return how many were answered a second."""
        left = iter(range(requests))
        connector = aiohttp.TCPConnector(limit=clients)
        async with aiohttp.ClientSession(headers=self._headers, connector=connector) as session:
            started = time.monotonic()
            await asyncio.gather(*(self._client(session, left, query) for _ in range(clients)))
            return requests / (time.monotonic() - started)

    async def _client(self, session: aiohttp.ClientSession, left: Iterator[int], query: str | None) -> None:
        for number in left:
            asked = {"query": query or query_of(number), "k": 5}
            async with session.post(self._url, json=asked) as answer:
                found = await answer.json()
                if answer.status != 200:
                    self.errors += 1
                elif query is not None:
                    said = {match[1] for hit in found["hits"] for match in _REVISION.finditer(hit["text"])}
                    self.mixed += len(said) > 1


def query_of(number: int) -> str:
    """Return a part of a page."""
    return make_page(number % 380, 0)[600:660]


def resident_mb(pid: int) -> float:
    """Return the megabytes of memory that a process has."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def added_ms(home: Home, address: str, key: str, searches: int) -> tuple[float, float]:
    """Return the medians of a search in this process and over HTTP, in milliseconds, taken in turns."""
    here: list[float] = []
    there: list[float] = []

    async def compare() -> None:
        headers = {"Authorization": f"Bearer {key}"}
        url = f"{address}/api/v1/kbs/{home.spec.key.tenant}.{home.spec.key.kb}/search"
        async with aiohttp.ClientSession(headers=headers) as session:
            for number in range(searches + 5):
                query = query_of(number)
                started = time.perf_counter()
                kb.search(query, k=5)
                between = time.perf_counter()
                async with session.post(url, json={"query": query, "k": 5}) as answer:
                    await answer.read()
                if number >= 5:  # the first ones open connections and tables
                    here.append(between - started)
                    there.append(time.perf_counter() - between)

    with kb_pipeline.open(settings=home.settings) as opened:
        kb = opened.kb(home.spec.key)
        asyncio.run(compare())
    return statistics.median(here) * 1000, statistics.median(there) * 1000


def first_answer_s(home: Home, key: str) -> float:
    """Return the seconds from the start of a process to its first answer to a search."""
    started = time.monotonic()
    with serving(home) as (address, _):
        load = Load(address, key, f"{home.spec.key.tenant}.{home.spec.key.kb}")
        asyncio.run(load.run(1, 1))
        return time.monotonic() - started


def measure(pages: int, searches: int, requests: int, folder: Path) -> dict[str, float]:
    """Return the figures."""
    home = Home(folder)
    home.fetch({f"http://x.example/{number}": marked_page(number, 1) for number in range(pages)})
    home.refresh("first")
    key, _ = create_key(home.db, home.spec.key.tenant, ("read",), "benchmark")
    figures = {"chunks": float(home.live.counts.chunks) if home.live else 0.0}
    figures["first_answer_s"] = min(first_answer_s(home, key) for _ in range(3))
    with serving(home) as (address, process):
        load = Load(address, key, f"{home.spec.key.tenant}.{home.spec.key.kb}")
        asyncio.run(load.run(1, 50))
        figures["in_process_p50_ms"], figures["http_p50_ms"] = added_ms(home, address, key, searches)
        figures["added_ms"] = figures["http_p50_ms"] - figures["in_process_p50_ms"]
        one, many = [], []
        for _ in range(3):
            one.append(asyncio.run(load.run(1, 200)))
            many.append(asyncio.run(load.run(CLIENTS, 600)))
        figures["one_client_per_s"], figures["many_clients_per_s"] = max(one), max(many)
        figures["speed_up"] = figures["many_clients_per_s"] / figures["one_client_per_s"]
        asyncio.run(load.run(CLIENTS, 1000))
        before = resident_mb(process.pid)
        asyncio.run(load.run(CLIENTS, requests))
        figures["memory_mb"] = resident_mb(process.pid)
        figures["memory_growth"] = figures["memory_mb"] / before
        figures |= _publish_under_load(home, load, pages)
        figures["errors"] = float(load.errors)
    return {name: round(figure, 3) for name, figure in figures.items()}


def _publish_under_load(home: Home, load: Load, pages: int) -> dict[str, float]:
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            asyncio.run(load.run(CLIENTS, 200, "this page is of revision"))

    clients = threading.Thread(target=ask)
    clients.start()
    try:
        for revision in (2, 3):
            home.fetch({f"http://x.example/{number}": marked_page(number, revision) for number in range(pages)})
            home.refresh(f"revision {revision}")
    finally:
        is_over.set()
        clients.join()
    return {"mixed_answers": float(load.mixed)}


def main() -> int:
    """Print the figures; return 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--pages", type=int, default=380)
    parser.add_argument("--searches", type=int, default=200)
    parser.add_argument("--requests", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options.pages, options.searches, options.requests, Path(folder))
    print(json.dumps(figures) if options.json else "\n".join(f"{name:20}{value}" for name, value in figures.items()))
    is_met = (
        figures["added_ms"] <= ADDED_MS
        and figures["speed_up"] >= SPEED_UP
        and figures["memory_growth"] <= GROWTH
        and figures["first_answer_s"] <= FIRST_ANSWER_S
        and figures["errors"] == figures["mixed_answers"] == 0
    )
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
