"""Runs `kb` as a user does: in a process of its own, on a home of its own."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kb_pipeline_tests import warm
from kb_pipeline_tests.site import Site


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


class Kb:
    """The command line on one home."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *arguments: str) -> Done:
        done = warm.run("kb_pipeline", arguments, os.environ, self.folder)
        return Done(done.returncode, done.stdout, done.stderr)

    def apply(self, site: Site, *, start: str = "/", kb: str = "docs", **sections: Any) -> Done:
        source = {"name": "site", "type": "web", "start_urls": [site.url + start], "delay_s": 0}
        model = {"model": "all-MiniLM-L6-v2"}  # opens four times as fast as the default
        spec = {"tenant": "acme", "kb": kb, "sources": [source], "embedding": model, **sections}
        (self.folder / f"{kb}.yaml").write_text(json.dumps(spec))  # JSON is YAML
        return self("apply", f"{kb}.yaml", "--json")

    def build(self, kb: str = "docs") -> Done:
        return self("build", f"acme/{kb}", "--json")
