"""Compares pages a second without any delay: Scrapy's defaults, this project's first crawl, and its revalidation.

Scrapy has its default settings and its own LinkExtractor. All fetch the same generated site, of pages that link to a
hundred others each, from the same server on loopback, alternating, each time in a fresh process. The revalidation
requests the same pages once more; none has changed.

Run it with: python -m benchmarks.crawl [--pages N] [--rounds N] [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
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

FIRST_FLOOR = 3.0
"""The least ratio of pages a second, first crawl to Scrapy's defaults."""
REVALIDATION_FLOOR = 20.0
"""The least ratio of pages a second, revalidation to fetching them with Scrapy's defaults."""
_WAYS = ("scrapy", "first", "again")
_LINKS = 100
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


def generate(folder: Path, pages: int) -> None:
    """Write pages of some 500 words, linked as a tree and to others at random."""
    chance = random.Random(1)
    words = [f"word{number}" for number in range(3000)]
    for number in range(pages):
        children = [child for child in range(4 * number + 1, 4 * number + 5) if child < pages]
        targets = children + [chance.randrange(pages) for _ in range(_LINKS - len(children))]
        links = "".join(f'<li><a href="/p{t}.html">Page {t} about {words[t % 3000]}</a></li>' for t in targets)
        text = "".join(f"<p>{' '.join(chance.choices(words, k=60))}.</p>" for _ in range(8))
        body = f"<nav><ul>{links}</ul></nav><main><h1>Page {number}</h1>{text}</main>"
        (folder / f"p{number}.html").write_text(
            f"<!doctype html><html lang=en><head><title>Page {number}</title></head><body>{body}</body></html>"
        )


def measure(pages: int, rounds: int) -> dict[str, Any]:
    """Time all three alternately, so that other load slows all of them; return medians."""
    with tempfile.TemporaryDirectory() as temporary, _served(Path(temporary), pages) as (server, url):
        rounds = []
        for number in range(rounds):
            folder = Path(temporary) / f"round-{number}"
            folder.mkdir()
            rounds.append({way: _timed(way, url, pages, folder) for way in _WAYS})
    speeds = {way: pages / statistics.median(round_[way] for round_ in rounds) for way in _WAYS}
    return {
        "pages": pages,
        "server": server,
        "per_second": speeds,
        "first_to_scrapy": statistics.median(round_["scrapy"] / round_["first"] for round_ in rounds),
        "again_to_scrapy": statistics.median(round_["scrapy"] / round_["again"] for round_ in rounds),
        "again_to_first": statistics.median(round_["first"] / round_["again"] for round_ in rounds),
    }


@contextlib.contextmanager
def _served(folder: Path, pages: int) -> Iterator[tuple[str, str]]:
    """Serve the site on a loopback port by another process; yield the server's name and the first page's URL."""
    site, port = folder / "site", _free_port()
    folder.chmod(0o755)  # nginx's worker is another user
    site.mkdir()
    generate(site, pages)
    server = _server(folder, site, port)
    with contextlib.ExitStack() as stack:
        process = subprocess.Popen(server, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        _wait_for(port)
        yield Path(server[0]).name, f"http://127.0.0.1:{port}/p0.html"


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


def _timed(way: str, url: str, pages: int, folder: Path) -> float:
    """Return the seconds of one crawl, without the start of its process."""
    job = [sys.executable, "-m", "benchmarks.crawl", "--worker", way, url, str(folder)]
    done = subprocess.run(job, check=True, stdout=subprocess.PIPE)
    fetched, seconds = json.loads(done.stdout)
    if fetched != pages:
        raise RuntimeError(f"{way}: {fetched} pages instead of {pages}")
    return float(seconds)


def _work(way: str, url: str, folder: Path) -> tuple[int, float]:
    return _scrapy(url) if way == "scrapy" else _crawl(url, folder, again=way == "again")


def _scrapy(url: str) -> tuple[int, float]:
    from scrapy.crawler import CrawlerProcess
    from scrapy.http import Response
    from scrapy.linkextractors import LinkExtractor
    from scrapy.spiders import CrawlSpider, Rule

    fetched = 1  # the start page is followed, not handed to the callback

    class Stock(CrawlSpider):
        name = "stock"
        start_urls = (url,)
        rules = (Rule(LinkExtractor(), callback="count", follow=True),)

        def count(self, response: Response) -> None:
            nonlocal fetched
            fetched += response.url != url

    process = CrawlerProcess({"LOG_LEVEL": "ERROR"})
    process.crawl(Stock)
    started = time.perf_counter()
    process.start()
    return fetched, time.perf_counter() - started


def _crawl(url: str, folder: Path, *, again: bool) -> tuple[int, float]:
    """Crawl as a refresh does, with the host's requests scheduled in a control plane."""
    from kb_pipeline.control.coordination.host_limits import SharedHostScheduler
    from kb_pipeline.control.db.engine import Database
    from kb_pipeline.fetch.web.crawl.process import crawl
    from kb_pipeline.fetch.web.rules import CrawlFiles, CrawlRules

    rules = CrawlRules(
        source="bench", start_urls=(url,), sitemap="off", scope="host", include=(), exclude=(), max_pages=1_000_000,
        max_depth=100, delay_s=0.0, user_agent="kb-bench/1.0", allowed_networks=("127.0.0.0/8",),
    )  # fmt: skip
    hosts = SharedHostScheduler(Database(f"sqlite:///{folder / 'control.db'}"), "bench", "run")
    known = _known(folder / "first") if again else None
    files = CrawlFiles(folder / ("again" if again else "first"), folder / "notes", known)
    summary = crawl(rules, files, lambda done, total: None, hosts)
    return summary.outcomes["unchanged" if again else "fetched"], summary.seconds


def _known(journal: Path) -> Path:
    """Write what the first crawl kept, as a refresh passes it to the next one."""
    import polars as pl

    from kb_pipeline.fetch.journal import segments
    from kb_pipeline.fetch.web.crawl.known_pages import COLUMNS

    rows = pl.concat([pl.read_parquet(path, columns=[*COLUMNS[:6], "rendered", "shell"]) for path in segments(journal)])
    none = pl.lit(None, pl.String)
    path = journal.with_suffix(".known.parquet")
    rows.with_columns(waits=pl.lit(value=False), reason=none, message=none, consent=none).write_parquet(path)
    return path


def main() -> int:
    """Print the comparison; return 1 when a ratio is below its floor and nginx was the server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--pages", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        way, url, folder = options.worker
        print(json.dumps(_work(way, url, Path(folder))))
        return 0
    found = measure(options.pages, options.rounds)
    if options.json:
        print(json.dumps(found))
    else:
        for way, speed in found["per_second"].items():
            print(f"{way:8}{speed:8.0f} pages/s")
        print(f"first crawl {found['first_to_scrapy']:.1f} times Scrapy (floor {FIRST_FLOOR})")
        print(f"revalidation {found['again_to_scrapy']:.1f} times Scrapy (floor {REVALIDATION_FLOOR}),", end=" ")
        print(f"{found['again_to_first']:.1f} times the first crawl; {found['pages']} pages by {found['server']}")
    # Python's own server is slower than the revalidation, so ratios with it mean nothing.
    is_kept = found["first_to_scrapy"] >= FIRST_FLOOR and found["again_to_scrapy"] >= REVALIDATION_FLOOR
    return 0 if is_kept or found["server"] != "nginx" else 1


if __name__ == "__main__":
    sys.exit(main())
