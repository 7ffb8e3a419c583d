"""Compares the cost of a refresh to the first build of the same site, by the command line.

Run it with: python -m benchmarks.refresh [--site DIR] [--pages N] [--model NAME] [--json]

Without --site a site of N pages is generated. The site is copied, served on loopback by Python's own web server, built,
built again unchanged, with 1 % of its pages edited, and with every file's date new over the same bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BARS = {
    "unchanged_cpu_ratio": 50.0,
    "one_percent_ratio": 20.0,
}
"""How many times cheaper than the first build a refresh is at least: CPU seconds of one that finds nothing changed, and
wall seconds of one that finds 1 % of the pages changed."""

_WORDS = (Path(__file__).parent.parent / "README.md").read_text().split()


def generate(folder: Path, pages: int, seed: int = 1) -> None:
    """Write pages of some 700 random words in sections, linked as a tree."""
    chance = random.Random(seed)
    for number in range(pages):
        children = [child for child in range(4 * number + 1, 4 * number + 5) if child < pages]
        links = "".join(f'<li><a href="page-{child}.html">page {child}</a></li>' for child in children)
        sections = "".join(
            f"<h2>Part {part} of {number}</h2>" + "".join(f"<p>{_sentence(chance, number)}</p>" for _ in range(6))
            for part in range(5)
        )
        title = f"Page {number} {' '.join(chance.sample(_PLAIN, 3))}"
        body = f"<main><h1>{title}</h1>{sections}</main><nav><ul>{links}</ul></nav>"
        name = "index.html" if number == 0 else f"page-{number}.html"
        (folder / name).write_text(
            f"<!doctype html><html lang=en><head><title>{title}</title></head><body>{body}</body></html>"
        )


_PLAIN = sorted({word.lower() for word in _WORDS if re.fullmatch("[A-Za-z]{3,}", word)})


def _sentence(chance: random.Random, number: int) -> str:
    return f"In {number} the {' '.join(chance.choices(_PLAIN, k=24))}."


@contextmanager
def served(folder: Path, host: str = "127.0.0.1") -> Iterator[str]:
    """Serve a folder on a free port of a loopback address."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", host, "--directory", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        line = server.stdout.readline() if server.stdout else ""
        port = re.search(r"port (\d+)", line)
        if port is None:
            raise RuntimeError(f"no server: {line}")
        yield f"http://{host}:{port[1]}"
    finally:
        server.terminate()
        server.wait()


@dataclass
class Built:
    """The result of one `kb build`."""

    wall_s: float
    cpu_s: float
    answer: dict[str, Any]

    def stage(self, name: str, figure: str) -> int:
        """Return a figure of a stage's report."""
        return int(self.answer["stages"][name][figure])


class Home:
    """A home that is used by the command line."""

    def __init__(self, folder: Path, models: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "models").symlink_to(models)
        self.path = folder
        self.environment = os.environ | {"KB_HOME": str(folder), "KB_ALLOW_PRIVATE_NETWORKS": "127.0.0.0/8"}

    def run(self, *arguments: str) -> str:
        """Run `kb`; return what it printed."""
        command = [sys.executable, "-m", "kb_pipeline", *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if done.returncode not in (0, 3):
            raise RuntimeError(f"kb {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def build(self) -> Built:
        """Refresh; measure it with all its child processes."""
        started, cpu = time.monotonic(), _children_cpu_s()
        answer = json.loads(self.run("build", "bench/site", "--json"))
        return Built(time.monotonic() - started, _children_cpu_s() - cpu, answer)

    def commits(self) -> dict[str, int]:
        """Return every table version on disk, and every raw segment."""
        files = [*self.path.glob("data/**/*.manifest"), *self.path.glob("data/**/raw/*.parquet")]
        return {str(path): path.stat().st_mtime_ns for path in files}


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def edit(folder: Path, share: float, seed: int) -> int:
    """Put one new sentence into this share of the pages; return how many."""
    pages = sorted(path for path in folder.rglob("*.html") if b"<p" in path.read_bytes())
    chosen = random.Random(seed).sample(pages, max(1, round(len(pages) * share)))
    for number, path in enumerate(chosen):
        text = path.read_text("utf-8", errors="surrogateescape")
        at = text.index(">", text.index("<p")) + 1
        said = f"Edited in round {seed} as number {number}. "
        path.write_text(text[:at] + said + text[at:], "utf-8", errors="surrogateescape")
    return len(chosen)


def touch(folder: Path) -> None:
    """Give the files new modification times but the same bytes."""
    later = time.time() + 10
    for path in folder.rglob("*"):
        os.utime(path, (later, later))


def measure(site: Path | None, pages: int, model: str) -> dict[str, Any]:
    """Build, then refresh in each of the ways."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, root = Path(temporary), Path(temporary) / "site"
        (folder / "models").mkdir()
        if site is None:
            root.mkdir()
            generate(root, pages)
        else:
            shutil.copytree(site, root)
        with served(root) as url:
            home = Home(folder / "home", folder / "models")
            start = f"{url}/index.html"
            source = {
                "name": "site",
                "type": "web",
                "start_urls": [start],
                "delay_s": 0,
                "max_pages": 5000,
                "max_depth": 30,
            }
            spec = {"tenant": "bench", "kb": "site", "sources": [source], "embedding": {"model": model}}
            (folder / "site.yaml").write_text(json.dumps(spec))
            home.run("apply", str(folder / "site.yaml"))
            return _measure(home, root)


def _measure(home: Home, root: Path) -> dict[str, Any]:
    first = home.build()
    home.build()  # a first refresh may still have something to store
    before = home.commits()
    unchanged = home.build()
    commits = len(set(home.commits().items()) ^ set(before.items()))
    edited = edit(root, 0.01, seed=1)
    changed = home.build()
    touch(root)
    touched = home.build()
    return {
        "pages": first.stage("fetch", "out"),
        "chunks": first.stage("index", "in"),
        "first": _figures(first),
        "unchanged": _figures(unchanged) | {"commits": commits, "body_bytes": unchanged.stage("fetch", "body_bytes")},
        "one_percent": _figures(changed)
        | {
            "edited": edited,
            "cleaned": changed.stage("clean", "in") - changed.stage("clean", "unchanged"),
            "chunks_added": changed.stage("index", "in") - changed.stage("index", "unchanged"),
        },
        "new_dates": _figures(touched),
        "unchanged_cpu_ratio": first.cpu_s / unchanged.cpu_s,
        "one_percent_ratio": first.wall_s / changed.wall_s,
    }


def _figures(built: Built) -> dict[str, Any]:
    return {
        "status": built.answer["status"],
        "version": built.answer["version"],
        "wall_s": round(built.wall_s, 2),
        "cpu_s": round(built.cpu_s, 2),
        "embedded": built.stage("embed", "embedded"),
    }


def problems(found: dict[str, Any]) -> list[str]:
    """Return a message for each figure that falls short."""
    wrong = [f"{name} is {found[name]:.1f}, wanted {bar}" for name, bar in BARS.items() if found[name] < bar]
    one = found["one_percent"]
    expected = {
        "unchanged: status": (found["unchanged"]["status"], "unchanged"),
        "unchanged: embedded": (found["unchanged"]["embedded"], 0),
        "unchanged: commits": (found["unchanged"]["commits"], 0),
        "1 %: pages cleaned": (one["cleaned"], one["edited"]),
        "1 %: texts embedded": (one["embedded"] <= one["chunks_added"], True),
        "new dates: status": (found["new_dates"]["status"], "unchanged"),
        "new dates: embedded": (found["new_dates"]["embedded"], 0),
    }
    return wrong + [f"{what} is {got}, wanted {want}" for what, (got, want) in expected.items() if got != want]


def main() -> int:
    """Print the figures; return 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--site", type=Path, help="a folder of HTML pages with an index.html")
    parser.add_argument("--pages", type=int, default=2000)
    parser.add_argument("--model", default="multilingual-e5-small")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    found = measure(options.site, options.pages, options.model)
    wrong = problems(found)
    if options.json:
        print(json.dumps(found | {"problems": wrong}))
    else:
        for name, value in found.items():
            print(f"{name:22}{value:8.1f}" if isinstance(value, float) else f"{name:22}{value}")
        print("\n".join(wrong) or "every bar is kept")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
