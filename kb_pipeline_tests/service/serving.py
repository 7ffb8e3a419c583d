"""Two tenants' published KBs behind the service, in this process or in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

import kb_pipeline
from kb_pipeline.control.tenancy.api_keys import create_key
from kb_pipeline.control.tenancy.token_holder import SCOPES, Scope
from kb_pipeline.model import KbKey
from kb_pipeline.service.app import create_app
from kb_pipeline.settings import as_environment
from kb_pipeline_tests.operations.home import Home

DOCS, THEIRS = KbKey("acme", "docs"), KbKey("globex", "docs")
API = "/api/v1"
PROBLEM = "application/problem+json"


def key_of(home: Home, tenant: str = "acme", *scopes: Scope) -> str:
    """Return a new key of a tenant, with all scopes unless some are named."""
    return create_key(home.db, tenant, scopes or SCOPES, "tester")[0]


class Client:
    """Sends requests with a key, and holds every answer to the promise that errors are problems."""

    def __init__(self, http: TestClient, key: str | None) -> None:
        self._http = http
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def __call__(self, method: str, path: str, **options: Any) -> Any:
        headers = self._headers | options.pop("headers", {})
        answer = self._http.request(method, path, headers=headers, **options)
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == PROBLEM, answer.text
            problem = answer.json()
            assert problem["status"] == answer.status_code
            assert problem["type"].startswith("urn:kb-pipeline:problem:")
            assert problem["title"]
            assert problem["detail"]
        return answer

    def get(self, path: str, **options: Any) -> Any:
        return self("GET", API + path, **options)

    def post(self, path: str, **options: Any) -> Any:
        return self("POST", API + path, **options)


@contextmanager
def in_process(home: Home) -> Iterator[TestClient]:
    """Open the application over a home."""
    with TestClient(create_app(kb_pipeline.open(settings=home.settings)), raise_server_exceptions=False) as http:
        yield http


@contextmanager
def served(home: Home, *options: str, cwd: Path | None = None) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run `kb serve` over a home; yield its address and process."""
    with subprocess.Popen(
        [sys.executable, "-m", "kb_pipeline", "serve", "--port", "0", *options],
        env=os.environ | as_environment(home.settings), text=True, stderr=subprocess.PIPE, cwd=cwd,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            assert " on http://" in line, line + process.stderr.read()
            yield line.split()[-1], process
        finally:
            process.terminate()
            process.wait(60)
