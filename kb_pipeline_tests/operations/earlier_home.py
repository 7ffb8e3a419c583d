"""A home with a past, for tests that open it with later code: how it was made, its site, and what it answered.

`kb_pipeline_tests/data/home-2026-11.tar.xz` was made by the code of commit b4a68ad, the last one before the packages
were moved and manifests became typed, on a processor with bf16. To record another release, check it out and run, with
its dependencies:

    PYTHONPATH=CHECKOUT python -P kb_pipeline_tests/operations/earlier_home.py FOLDER ARCHIVE.tar.xz

That is why this module imports only the standard library and calls nothing but `kb`. No server has the site's address:
a test serves the site as a proxy on a free port (`KB_PROXY`), so that the recorded KB files stay as they are.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ORIGIN = "http://127.0.0.9"
TOKEN = "hunter2-hunter2"  # the value of the secret in a start URL of acme/docs
DOCS, GUIDE = "acme/docs", "acme/guide"
ERASED = f"{ORIGIN}/gardener"
KB_FILES: tuple[dict[str, Any], ...] = (
    {
        "tenant": "acme",
        "kb": "docs",
        "sources": [
            {
                "name": "site",
                "type": "web",
                "start_urls": [f"{ORIGIN}/", f"{ORIGIN}/members?token=${{TOKEN}}"],
                "delay_s": 0,
            }
        ],
        "embedding": {"model": "all-MiniLM-L6-v2"},
        "retention": {"versions": 10},
    },
    {
        "tenant": "acme",
        "kb": "guide",
        "sources": [
            {
                "name": "site",
                "type": "web",
                "start_urls": [f"{ORIGIN}/"],
                "include": ["/", "/apples", "/pears", "/quinces"],
                "delay_s": 0,
            }
        ],
        "embedding": {"model": "multilingual-e5-small"},
    },
)
PLAN = {"plan": "small", "limits": {"pages_per_day": 1000, "documents": 100}, "prices": {"all-MiniLM-L6-v2": 0.02}}
QUERIES = ("How long do apples keep?", "thick dark jam", "who looks after the trees")
_LEFT_OUT = ("models", "dagster", "logs", "control.db-*")


class OrchardSite:
    """Seven pages of `ORIGIN`, one of which is forbidden; pages that are missing answer 404."""

    def __init__(self) -> None:
        self.bodies: dict[str, str] = {}
        self.proxy = ""
        self.plant()

    def plant(self) -> None:
        """Put every page as it was at first."""
        self.bodies.clear()
        self.put("/apples", "Apples", "Apples keep for months in a cool and dark cellar, best on wooden shelves.")
        self.put("/pears", "Pears", "Pears ripen after they are picked, so pick them while they are still hard.")
        self.put("/plums", "Plums", "Plums are dried into prunes or boiled down to a thick and dark jam.")
        self.put("/quinces", "Quinces", "Quinces are too hard to be eaten raw; cooked they turn a deep red.")
        self.put("/gardener", "Gardener", "Ada Lovegood looks after the trees and answers the telephone at night.")
        self.put(f"/members?token={TOKEN}", "Members", "Members of the orchard may pick one basket of cherries a week.")
        links = ("/apples", "/pears", "/plums", "/quinces", "/gardener", "/locked")
        self.put("/", "Orchard", "The handbook of our orchard: how fruit is picked and stored.", links)

    def put(self, path: str, title: str, text: str, links: tuple[str, ...] = ()) -> None:
        items = "".join(f'<li><a href="{link}">see {link}</a></li>' for link in links)
        self.bodies[ORIGIN + path] = (
            f"<!doctype html><html lang=en><head><title>{title}</title></head><body><main><h1>{title}</h1>"
            f"<p>{text}</p><ul>{items}</ul></main></body></html>"
        )

    def change_apples(self) -> None:
        self.put("/apples", "Apples", "Apples keep for half a year in a cold store whose air has little oxygen.")

    def add_medlars(self) -> None:
        self.put("/pears", "Pears", "Pears ripen after they are picked. See also medlars.", ("/medlars",))
        self.put("/medlars", "Medlars", "Medlars are eaten when they are bletted, which takes weeks in straw.")

    def lose_most(self) -> None:
        for path in ("/pears", "/plums", "/quinces", "/medlars"):
            self.bodies.pop(ORIGIN + path, None)


@contextmanager
def orchard_site() -> Iterator[OrchardSite]:
    """Serve the site as a proxy at `site.proxy`."""
    site = OrchardSite()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            page = site.bodies.get(self.path)
            status = 403 if self.path == f"{ORIGIN}/locked" else 404 if page is None else 200
            body = (page or "no").encode()
            etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            if status == 200 and self.headers.get("If-None-Match") == etag:
                status, body = 304, b""
            self.send_response(status)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("ETag", etag)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.proxy = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()


def environment(home: Path, proxy: str) -> dict[str, str]:
    """Return the variables that a process on that home needs beside the machine's own."""
    return {
        "KB_HOME": str(home),
        "KB_ALLOW_PRIVATE_NETWORKS": "127.0.0.0/8",
        "KB_PROXY": proxy,
        "KB_ACTOR": "recorder",
        "KB_CONTACT": "orchard@example.com",
    }


def read_commands(newest: dict[str, int], between: str) -> Iterator[tuple[str, ...]]:
    """Yield the commands whose answers are recorded: everything that reads.

    Args:
        newest: the number of each KB's newest version.
        between: an ISO time between the first two versions of `DOCS`.
    """
    for kb in (DOCS, GUIDE):
        yield from ((command, kb, "--json") for command in ("status", "versions", "documents", "failures"))
        for mode in ("hybrid", "vector", "keyword"):
            yield from (("search", kb, query, "--mode", mode, "--json") for query in QUERIES[:2])
        for version in range(1, newest[kb] + 1):
            yield "documents", kb, "--as-of", str(version), "--json"
            yield from (("search", kb, query, "--as-of", str(version), "--json") for query in QUERIES)
        yield "search", kb, QUERIES[0], "--provenance", "--language", "en", "-k", "2", "--json"
        yield "page", kb, f"{ORIGIN}/apples", "--json"
        yield "page", kb, f"{ORIGIN}/apples", "--raw"
        yield "replay", kb, f"{ORIGIN}/apples", "--json"
    yield "search", DOCS, QUERIES[0], "--as-of", between, "--json"
    yield "replay", DOCS, f"{ORIGIN}/apples", "--as-of", "1", "--json"
    yield "page", DOCS, ERASED, "--json"
    yield "diff", DOCS, "1", str(newest[DOCS]), "--json"
    yield "diff", DOCS, "1", "2", "--feed"
    for command in (("quota", "acme"), ("usage", "acme"), ("usage",), ("audit", "list"), ("audit", "list", "acme")):
        yield *command, "--json"
    yield "audit", "verify", "--json"
    yield "key", "list", "acme", "--json"
    yield "secret", "list", "acme", "--json"
    yield "plan", "list", "--json"
    yield "tenant", "list", "--json"
    yield "flag", "list", "--json"


def make(site: OrchardSite, kb: Callable[..., Any], folder: Path) -> dict[str, Any]:
    """Make the home and return what `read_commands` wants to know of it.

    Args:
        site: changes between the refreshes.
        kb: calls the command line in `folder`, raises for an exit status that is not expected, and returns its JSON.
        folder: gets the KB files and the plan's.
    """
    for spec in KB_FILES:
        (folder / f"{spec['kb']}.yaml").write_text(json.dumps(spec))  # JSON is YAML
    (folder / "plan.yaml").write_text(json.dumps(PLAN))
    kb("plan", "apply", "plan.yaml", "--json")
    kb("tenant", "create", "acme", "--plan", "small", "--json")
    kb("secret", "set", "acme", "TOKEN", "--json", stdin=TOKEN)
    kb("apply", "docs.yaml", "guide.yaml", "--json")
    api_key = kb("key", "create", "acme", "--scope", "read", "--scope", "build", "--label", "tests", "--json")["key"]
    kb("build", DOCS, "--json")
    kb("build", GUIDE, "--json")
    between = kb("versions", GUIDE, "--json")[0]["created_at"]
    site.change_apples()
    kb("build", DOCS, "--json")
    kb("build", GUIDE, "--json")
    kb("erase", DOCS, ERASED, "--yes", "--json")
    del site.bodies[ERASED]
    site.add_medlars()
    kb("build", DOCS, "--json")
    kb("rollback", DOCS, "2", "--json")
    kb("rollback", GUIDE, "1", "--json")
    site.lose_most()
    kb("build", DOCS, "--json", expected=3)
    newest = {key: kb("versions", key, "--json")[0]["version"] for key in (DOCS, GUIDE)}
    return {"api_key": api_key, "between": between, "newest": newest}


def pack(home: Path, archive: Path) -> None:
    """Write the archive of a home."""

    def without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid, member.gid, member.uname, member.gname = 0, 0, "", ""
        return member

    with tarfile.open(archive, "w:xz", preset=9) as tar:
        tar.add(home, "home", filter=without_owner)


def record(folder: Path, archive: Path) -> None:
    """Make a home with the `kb_pipeline` that is imported, ask it everything, and pack both."""
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    with orchard_site() as site:
        variables = os.environ | environment(home, site.proxy)

        def call(arguments: Sequence[str], stdin: str = "") -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-P", "-m", "kb_pipeline", *arguments]
            return subprocess.run(command, input=stdin, env=variables, cwd=folder, capture_output=True, text=True)

        def kb(*arguments: str, stdin: str = "", expected: int = 0) -> Any:
            done = call(arguments, stdin)
            if "--yes" in arguments and "No such option" in done.stderr:  # a release that erased without asking
                done = call([each for each in arguments if each != "--yes"], stdin)
            sys.stderr.write(f"{done.returncode} {' '.join(arguments)}\n{done.stdout[:300]}\n")
            if done.returncode != expected:
                raise SystemExit(done.stderr)
            return json.loads(done.stdout)

        facts = make(site, kb, folder)
        shutil.copytree(home, folder / "untouched", symlinks=True, ignore=shutil.ignore_patterns(*_LEFT_OUT))
        answers = []
        for arguments in read_commands(facts["newest"], facts["between"]):
            done = call(arguments)
            answers.append({"arguments": arguments, "status": done.returncode, "out": done.stdout, "err": done.stderr})
    recorded = json.dumps(facts | {"answers": answers}, indent=1)
    (folder / "recorded.json").write_text(recorded)
    (folder / "untouched/recorded.json").write_text(recorded)
    pack(folder / "untouched", archive)


if __name__ == "__main__":
    record(Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute())
