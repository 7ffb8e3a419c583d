"""Compares what refreshing an unchanged site costs with what it cost in an earlier revision of this project.

Run it with: python -m benchmarks.unchanged [--revision REV] [--lists N] [--rounds N] [--json]

The site has 101 keys a list page: 70 pages, ten that the file excludes, and twenty that the server refuses: 404, moved,
noindex, a picture. Both revisions run the stages fetch and clean of the same interpreter and libraries over it, each
in processes and a home of its own: once at first, then alternately, so that other load slows both. The earlier code is
checked out from this repository's history.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

REVISION = "5651810"
"""The last one that asked for nothing again that once gave no bytes."""
COST = 1.1
"""The greatest ratio of CPU seconds of a refresh to those of REVISION's."""
SHARE = 8
"""A refresh asks for at most one in so many of the keys that the server refused."""
_ROOT = Path(__file__).parent.parent
_KINDS = {"p": 70, "excluded": 10, "gone": 8, "moved": 4, "noindex": 4, "image": 4}
"""Keys of each kind that a list page links to."""
_REFUSED = ("gone", "moved", "noindex", "image")


class _Site:
    """A generated site, and how often each kind of its keys was asked for."""

    def __init__(self, lists: int) -> None:
        self.lists, self.asked, self._lock = lists, Counter[str](), threading.Lock()

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body for a path."""
        kind = path.split("/")[1] or "start"
        with self._lock:
            self.asked[kind] += 1
        if kind == "moved":
            return 301, {"Location": path.replace("/moved/", "/p/")}, b""
        if kind == "image":
            return 200, {"Content-Type": "image/png"}, b"\x89PNG"
        if kind not in ("start", "list", "p", "noindex"):
            return 404, {}, b""
        head = '<meta name="robots" content="noindex">' if kind == "noindex" else ""
        links = "".join(f'<li><a href="{link}">{link}</a></li>' for link in self._links(kind, path))
        body = (
            f"<html><head><title>{path}</title>{head}</head><main><p>{_prose(path)}</p></main><ul>{links}</ul></html>"
        )
        return (
            200,
            {"Content-Type": "text/html", "ETag": f'"{hashlib.sha256(path.encode()).hexdigest()}"'},
            body.encode(),
        )

    def _links(self, kind: str, path: str) -> Iterator[str]:
        if kind == "start":
            yield from (f"/list/{number}" for number in range(self.lists))
        elif kind == "list":
            number = path.rpartition("/")[2]
            yield from (f"/{kind}/{number}-{each}" for kind, keys in _KINDS.items() for each in range(keys))


def _prose(seed: str) -> str:
    chance = random.Random(seed)
    return " ".join("".join(chance.choices("abcdefghijklmnop", k=6)) for _ in range(80))


@contextmanager
def _served(site: _Site) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            status, headers, body = site.answer(self.path)
            if headers.get("ETag") and self.headers.get("If-None-Match") == headers["ETag"]:
                status, body = 304, b""
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(BrokenPipeError):  # who asks stops at the headers of a picture
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def refresh(home: Path, url: str) -> dict[str, Any]:
    """Run both stages once with whatever revision this process imports; return their counts and CPU seconds."""
    from kb_pipeline.clean.refresh import refresh_documents
    from kb_pipeline.clean.rules import CleaningRules
    from kb_pipeline.fetch.refresh import refresh_pages
    from kb_pipeline.fetch.web.rules import CrawlRules
    from kb_pipeline.fetch.web.source import WebSite
    from kb_pipeline.host_scheduler import LocalHostScheduler
    from kb_pipeline.model import KbKey
    from kb_pipeline.store.kb_store import KbStore
    from kb_pipeline.store.paths import KbPaths

    rules = CrawlRules(
        source="site", start_urls=(f"{url}/",), sitemap="off", scope="host", include=(), exclude=("/excluded/**",),
        max_pages=100_000, max_depth=10, delay_s=0.0, user_agent="kb-benchmark", allowed_networks=("127.0.0.0/8",),
    )  # fmt: skip
    store, began = KbStore(KbPaths(home, KbKey("bench", "site"))), _cpu_s()
    fetched = refresh_pages(store, [WebSite(rules)], "run", lambda *_: None, lambda _: LocalHostScheduler())
    fetch_s = _cpu_s() - began
    cleaned = refresh_documents(store, CleaningRules(), "run", lambda *_: None)
    return {"keys": fetched.entered, "documents": cleaned.passed, "fetch_s": fetch_s, "cpu_s": _cpu_s() - began}


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def measure(revision: str, lists: int, rounds: int) -> dict[str, Any]:
    """Build the site with both revisions, then refresh it alternately; return medians and requests."""
    site = _Site(lists)
    with tempfile.TemporaryDirectory() as temporary, _served(site) as url, _checked_out(revision) as earlier:
        trees = {"earlier": earlier, "now": _ROOT}
        first = {name: _run(tree, Path(temporary) / name, url) for name, tree in trees.items()}
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in trees}
        asked: dict[str, list[dict[str, int]]] = {name: [] for name in trees}
        for _ in range(rounds):
            for name, tree in trees.items():
                site.asked.clear()
                results[name].append(_run(tree, Path(temporary) / name, url))
                asked[name].append(dict(site.asked))
    cpu_s = {name: statistics.median(result["cpu_s"] for result in runs) for name, runs in results.items()}
    ratios = [now["cpu_s"] / before["cpu_s"] for now, before in zip(results["now"], results["earlier"], strict=True)]
    refused = lists * sum(_KINDS[kind] for kind in _REFUSED)
    most = max(sum(round_.get(kind, 0) for kind in _REFUSED) for round_ in asked["now"])
    return {
        "first": first, "cpu_s": cpu_s, "cost": statistics.median(ratios), "asked": asked, "refused_keys": refused,
        "refused_asked": most, "excluded_asked": max(round_.get("excluded", 0) for round_ in asked["now"]),
    }  # fmt: skip


def _run(tree: Path, home: Path, url: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--refresh", str(home), url]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(tree)}, cwd=tree, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@contextmanager
def _checked_out(revision: str) -> Iterator[Path]:
    """Yield a folder with the files of an earlier revision."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "-C", str(_ROOT), "archive", revision, "kb_pipeline"], check=True, capture_output=True
        )
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        yield Path(folder)


def main() -> int:
    """Print the ratio of costs and the requests; return 1 if either is above its bar."""
    if sys.argv[1:2] == ["--refresh"]:
        print(json.dumps(refresh(Path(sys.argv[2]), sys.argv[3])))
        return 0
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--revision", default=REVISION)
    parser.add_argument("--lists", type=int, default=100, help="a hundred keys each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = measure(given.revision, given.lists, given.rounds)
    if given.json:
        print(json.dumps(found, indent=2))
    else:
        print(f"{found['first']['now']['keys']} keys, {found['first']['now']['documents']} documents")
        print(f"CPU seconds of a refresh: {found['cpu_s']}, {found['cost']:.2f} times those of {given.revision}")
        print(f"asked for {found['refused_asked']} of {found['refused_keys']} keys that the server refused")
        print(f"asked for {found['excluded_asked']} keys that the file excludes")
        print(f"requests: {found['asked']}")
    is_good = found["cost"] <= COST and found["refused_asked"] <= found["refused_keys"] / SHARE
    return int(not (is_good and found["excluded_asked"] == 0))


if __name__ == "__main__":
    sys.exit(main())
