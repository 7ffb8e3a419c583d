"""Known pages asked for a second, over the refresh's light transport and over Scrapy's, side by side.

Both ask for the same unchanged pages by the same code (guard, robots, clocks, journal); only the transport differs.
Run it with: python -m benchmarks.revalidation [--json] [--pages N]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import email.utils
import hashlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kb_pipeline.fetch.web.rules import CrawlRules

FLOOR = 2.5
"""The least ratio of pages a second, light to Scrapy. 3.6 was measured for 6,000 pages, with nginx as the server on two
cores that others shared (2.6 for 2,000, where the start of the process counts for more). Scrapy is not as it comes
but as the crawl uses it: without scheduler, link extraction and most middlewares, twice as fast."""

TRANSPORTS = ("light", "scrapy")
_MODIFIED = 1_767_225_600  # any fixed time, so that a server's validators are known without asking it
_NGINX = """
worker_processes 1; daemon off; pid {home}/nginx.pid; error_log {home}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; default_type text/html; keepalive_requests 1000000; etag off;
  client_body_temp_path {home}/1; proxy_temp_path {home}/2; fastcgi_temp_path {home}/3;
  uwsgi_temp_path {home}/4; scgi_temp_path {home}/5;
  server {{ listen 127.0.0.1:{port}; root {site}; }}
}}
"""


def measure(pages: int, rounds: int) -> dict[str, Any]:
    """Time both in turns, so that whatever else the machine does slows both; the figures are medians."""
    with tempfile.TemporaryDirectory() as folder, _served(Path(folder), pages) as (server, url):
        known = _write_known(Path(folder), pages, url)
        turns = [{name: _timed(name, url, known) for name in TRANSPORTS} for _ in range(rounds)]
    speeds = {name: pages / statistics.median(turn[name]["seconds"] for turn in turns) for name in TRANSPORTS}
    return {
        "pages": pages,
        "server": server,
        "per_second": speeds,
        "process_seconds": {
            name: statistics.median(turn[name]["process_seconds"] for turn in turns) for name in TRANSPORTS
        },
        "ratio": statistics.median(turn["scrapy"]["seconds"] / turn["light"]["seconds"] for turn in turns),
        "floor": FLOOR,
    }


@contextlib.contextmanager
def _served(folder: Path, pages: int) -> Iterator[tuple[str, str]]:
    """The pages on a loopback port, by a process of its own; yields the server's name and its URL."""
    site, port = folder / "site", _free_port()
    folder.chmod(0o755)  # nginx's worker is somebody else
    site.mkdir()
    for number in range(pages):
        path = site / f"{number}.html"
        path.write_bytes(_body(number))
        os.utime(path, (_MODIFIED, _MODIFIED))
    server = _server(folder, site, port)
    with contextlib.ExitStack() as stack:
        process = subprocess.Popen(server, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        _wait_for(port)
        yield Path(server[0]).name, f"http://127.0.0.1:{port}"


def _server(folder: Path, site: Path, port: int) -> list[str]:
    if nginx := shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin"):
        config = folder / "nginx.conf"
        config.write_text(_NGINX.format(home=folder, port=port, site=site))
        return [nginx, "-c", str(config)]
    arguments = ["--bind", "127.0.0.1", "--protocol", "HTTP/1.1", "--directory", str(site), str(port)]
    return [sys.executable, "-m", "http.server", *arguments]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError("the server did not start")


def _body(number: int) -> bytes:
    words = " ".join(f"word{(number * 7 + n) % 900}" for n in range(400))
    return f"<html><body><h1>Page {number}</h1><p>{words}</p></body></html>".encode()


def _write_known(folder: Path, pages: int, url: str) -> Path:
    import polars as pl

    frame = pl.DataFrame(
        {
            "key": [f"{url}/{number}.html" for number in range(pages)],
            "sha256": [hashlib.sha256(_body(number)).hexdigest() for number in range(pages)],
        }
    ).with_columns(
        depth=pl.lit(1, pl.Int32),
        etag=pl.lit(None, pl.String),
        last_modified=pl.lit(email.utils.formatdate(_MODIFIED, usegmt=True)),
        lastmod=pl.lit(None, pl.String),
    )
    path = folder / "known.parquet"
    frame.write_parquet(path)
    return path


def _timed(transport: str, url: str, known: Path) -> dict[str, float]:
    """One revalidation in a fresh process: a reactor runs once in each."""
    job = [transport, url, str(known)]
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.revalidation", "--worker", *job], check=True, stdout=subprocess.PIPE
    )
    return {"seconds": float(done.stdout), "process_seconds": time.perf_counter() - started}


def _work(transport: str, url: str, known: Path) -> float:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, tempfile.TemporaryDirectory() as journal:
        return runner.run(_revalidate(transport, url, known, Path(journal)))


async def _revalidate(transport: str, url: str, known: Path, journal: Path) -> float:
    from kb_pipeline.fetch.web import light, spider
    from kb_pipeline.fetch.web.client import Transport
    from kb_pipeline.fetch.web.journal import JournalWriter
    from kb_pipeline.fetch.web.known import KnownPages
    from kb_pipeline.fetch.web.ledger import Ledger
    from kb_pipeline.fetch.web.walk import Walk

    rules = CrawlRules(
        source="bench", start_urls=(f"{url}/0.html",), sitemap="off", scope="host", include=(), exclude=(),
        max_pages=1_000_000, max_depth=5, delay_s=0.0, user_agent="kb-bench/1.0", allowed_networks=("127.0.0.0/8",),
    )  # fmt: skip
    writer, pages, seconds = JournalWriter(journal), KnownPages(known), 0.0
    ledger = Ledger(writer)
    walk = Walk(rules, journal, ledger, pages)

    async def work(get: Transport) -> None:
        nonlocal seconds
        started = time.perf_counter()
        await walk.revalidate(get)
        seconds = time.perf_counter() - started

    if transport == "light":
        async with light.transport(rules) as get:
            await work(get)
    else:
        await spider.run(work, rules)
    writer.close()
    outcomes = ledger.summary(0, 0, finished=True, engines=()).outcomes
    if outcomes != {"unchanged": len(pages)}:
        raise RuntimeError(f"not every page was unchanged: {outcomes}")
    return seconds


def main() -> int:
    """Print the comparison; 1 when the ratio is below the floor and nginx was the server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--pages", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        transport, url, known = options.worker
        print(_work(transport, url, Path(known)))
        return 0
    result = measure(options.pages, options.rounds)
    if options.json:
        print(json.dumps(result))
    else:
        for name, speed in result["per_second"].items():
            print(f"{name:10}{speed:8.0f} pages/s{result['process_seconds'][name]:8.2f} s for the whole process")
        print(f"{'ratio':10}{result['ratio']:8.2f} (floor {FLOOR}; {result['pages']} pages by {result['server']})")
    # Python's own server is slower than either client: with it the ratio says nothing.
    return 0 if result["ratio"] >= FLOOR or result["server"] != "nginx" else 1


if __name__ == "__main__":
    sys.exit(main())
