"""Random sites change and random files are edited under `kb build`: readers see what the semantics demand."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

import pytest

from kb_pipeline.errors import SourceFailed
from kb_pipeline.fetch.web.http.client import Request
from kb_pipeline.model import StageReport
from kb_pipeline_tests.fetch.model_home import Kill, Killed, ModelHome
from kb_pipeline_tests.fetch.site_history import History
from kb_pipeline_tests.fetch.site_model import File, Server, Step, planted, steps
from kb_pipeline_tests.kb import Kb

SEEDS = range(int(os.environ.get("KB_TEST_MODEL_BUILD_SEEDS", "1")))
BUILDS = int(os.environ.get("KB_TEST_MODEL_BUILDS", "3"))
KB = "acme/docs"
_FAILPOINTS = ("fetch.counted", "raw.adopt", "pages.upsert.after", "documents.upsert.after", "publish.before")


class BuiltHome(ModelHome):
    """A home that is used by the command line."""

    def __init__(self, kb: Kb, home: Path, server: Server, dice: Random) -> None:
        super().__init__(home / "data", server)
        self._kb, self._dice = kb, dice
        self._erased: set[str] = set()

    def refresh(self, file: File, *, retry: bool = False, kill: Kill = ("", 0)) -> list[StageReport]:
        """Apply the file with another chunking, erase or lift, build; let what is held through."""
        self._apply(file)
        self._erase(set(file.erased))
        if kill[0]:
            with pytest.MonkeyPatch.context() as environment:
                environment.setenv("KB_FAILPOINT", self._dice.choice(_FAILPOINTS))
                self._kb("build", KB)
            raise Killed
        has_failures = retry and bool(self._kb("failures", KB, "--json").json)
        built = self._kb("retry" if has_failures else "build", KB, "--json")
        if built.status == 3:
            held = self._kb("status", KB, "--json").json["last_run"]["version"]
            assert self._kb("approve", KB, str(held)).status == 0, built.err
        elif built.status != 0:
            raise SourceFailed("site", built.err)
        return []

    def live(self) -> set[str]:
        """Return the paths of the documents that readers see."""
        rows = self._kb("documents", KB, "--json").lines
        return {row["key"].removeprefix(self._server.url) for row in rows}

    def _apply(self, file: File) -> None:
        source = {
            "name": "site", "type": "web", "start_urls": [self._server.url + path for path in file.start], "delay_s": 0,
            "include": list(file.include), "exclude": list(file.exclude), "max_pages": file.max_pages,
            "max_depth": file.max_depth, "sitemap": file.sitemap,
        }  # fmt: skip
        chunking = {"max_tokens": self._dice.choice((64, 256)), "overlap_tokens": 0}
        spec = {
            "tenant": "acme", "kb": "docs", "sources": [source], "embedding": {"model": "all-MiniLM-L6-v2"},
            "publish": {"max_shrink": 1.0}, "chunking": chunking,
        }  # fmt: skip
        written = self._kb.folder / "docs.yaml"
        written.write_text(json.dumps(spec))
        assert self._kb("apply", str(written)).status == 0

    def _erase(self, wanted: set[str]) -> None:
        for path in wanted - self._erased:
            if self._kb("erase", KB, self._server.url + path, "--yes").status == 0:
                self._erased.add(path)
        for path in self._erased - wanted:
            assert self._kb("erase", KB, self._server.url + path, "--lift").status == 0
            self._erased.discard(path)


@contextmanager
def served() -> Iterator[Server]:
    """Serve a model of a site on a free loopback port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            answer = site.answer(Request(site.url + self.path, dict(self.headers.items())))
            self.send_response(answer.status)
            for name, value in {**answer.headers, "content-length": str(len(answer.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site = Server(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_live_documents_are_what_the_history_of_a_site_demands(tmp_path: Path, home: Path, seed: int) -> None:
    world = planted(seed)
    with served() as server:
        built = BuiltHome(Kb(tmp_path), home, server, Random(seed))
        history = History(world, server, built)
        life: list[Step] = []
        for step in steps(seed, BUILDS, world):
            if step.path == "erased" and not set(step.value) <= set(built.documents()):
                continue  # only what is there can be erased
            life.append(step)
            problem = history.problem(step)
            assert not problem, "\n".join([problem, *map(str, life)])
            if step.kind == "refresh":
                standing = {path for path, document in built.documents().items() if document.duplicate_of is None}
                assert built.live() == standing, "\n".join(map(str, life))
