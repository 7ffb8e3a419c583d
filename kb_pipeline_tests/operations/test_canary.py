"""No secret is found anywhere after a home was used: not in databases, events, tables, logs, nor in any output.

Secrets are known by canaries, each looked for as it is, as URLs spell it, and within base64. One is let through where
it has to be: a value that a KB file puts into a start URL is part of that page's address, under which the page is
stored, listed as failed and found (`kb apply` warns of it). Even that is in no event, report, message or log.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import traceback
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from kb_pipeline.cli.app import app
from kb_pipeline.control.db.models import Base
from kb_pipeline.control.tenancy.secrets import KEY_FILE
from kb_pipeline.errors import KbError
from kb_pipeline.model import KbKey
from kb_pipeline.operations import health
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.paths import KbPaths
from kb_pipeline_tests.databases import ON_POSTGRES, control_url, rows_of
from kb_pipeline_tests.site import Site

GLOB, ADDRESS, PASSWORD = "canary/glob+0000", "canary-address-1111", "canary-password-2222"
UNOPENED, WRONG = "canary-environment-3333", "ftp://canary-wrong-4444"
DATABASE_URLS = [f"postgresql://kb:{PASSWORD}@127.0.0.1:1/kb", f"postgresql://kb:{PASSWORD}/x@[h/db"]
PAGES = ("data/", "control.db: failures", "control.db as it lies")
"""Where pages are stored under their addresses."""


def spellings(canary: str) -> set[bytes]:
    """However it may have been written down, in lower case."""
    plain = {canary, quote(canary), quote(canary, safe=""), quote_plus(canary), json.dumps(canary)[1:-1]}
    found = {spelling.encode() for spelling in plain}
    for before in range(3):  # base64 depends on what stands before, and its ends on what is around
        whole = b"\0" * before + canary.encode()
        found |= {encode(whole)[4:-4] for encode in (base64.b64encode, base64.urlsafe_b64encode)}
    return {spelling.lower() for spelling in found}


def is_in(content: bytes, canary: str) -> bool:
    lowered = content.lower()
    return any(spelling in lowered for spelling in spellings(canary))


def contents(home: Path) -> Iterator[tuple[str, bytes]]:
    """Every file of the home as it lies there, and what is compressed or in tables in it as it is read."""
    for path in sorted(home.rglob("*")):
        if path.is_symlink() or not path.is_file() or "models" in path.relative_to(home).parts:
            continue
        name, content = str(path.relative_to(home)), path.read_bytes()
        if content.startswith(b"SQLite format 3"):
            yield from ((f"{name}: {table}", row.encode()) for table, row in rows_of(f"sqlite:///{path}"))
        yield (f"control.db as it lies: {name}" if name.startswith("control.db") else name), content
        if path.suffix == ".parquet":
            yield f"{name}: rows", repr(pq.read_table(path).to_pylist()).encode()
    if ON_POSTGRES:
        for table, row in rows_of(control_url(home)):
            yield f"{'control.db' if table in Base.metadata.tables else 'dagster/'}: {table}", row.encode()
    for kb in ("docs", "open"):
        tables = KbStore(KbPaths(home / "data", KbKey("acme", kb))).tables
        for table in tables.names(""):
            opened = tables.open(table)
            for batch in opened.stream(opened.schema.names):
                yield f"data/acme/{kb}: {table}", repr(batch.to_pylist()).encode()


class Used:
    """A home, and everything that any command said."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.home, self.folder, self.key = home, folder, ""
        self.said: list[tuple[str, bytes]] = []

    def __call__(self, *arguments: str, stdin: str = "", **environ: str) -> tuple[int, str]:
        """Exit status and all output, with what the process would say of an error."""
        done = CliRunner().invoke(app, list(arguments), input=stdin, env=environ)
        error = done.exception
        if error is None or isinstance(error, SystemExit):
            told = ""
        else:
            told = str(error) if isinstance(error, KbError) else "".join(traceback.format_exception(error))
        said = done.output + told
        self.said.append((" ".join(arguments[:2]), said.encode()))
        return done.exit_code, said

    def launch(self, kb: str, run_id: str) -> int:
        """As a sensor starts a refresh."""
        command = [sys.executable, "-m", "kb_pipeline.defs.launch", kb, run_id, str(os.getpid())]
        done = subprocess.run(command, capture_output=True, check=False)
        self.said.append((f"launch {kb}", done.stdout + done.stderr))
        return done.returncode

    def apply(self, kb: str, start: str, exclude: str) -> tuple[int, str]:
        source = {"name": "site", "type": "web", "start_urls": [start], "delay_s": 0, "exclude": [exclude]}
        spec = {"tenant": "acme", "kb": kb, "sources": [source], "embedding": {"model": "all-MiniLM-L6-v2"}}
        path = self.folder / f"{kb}.yaml"
        path.write_text(json.dumps(spec))
        return self("apply", str(path))


@pytest.fixture
def used(home: Path, tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> Used:
    """By commands that do as they should, and by others that fail in each way that touches a secret."""
    monkeypatch.setenv("UNOPENED", UNOPENED)
    monkeypatch.setattr(health, "check_embedding", lambda _: "takes seconds, and no secret")
    used = Used(home, tmp_path)
    assert used("tenant", "create", "acme")[0] == 0
    for name, value in (("GLOB", GLOB), ("ADDRESS", ADDRESS), ("SITE", site.url)):
        assert used("secret", "set", "acme", name, stdin=value)[0] == 0
    used.key = used("key", "create", "acme", "--scope", "read", "--scope", "build")[1].splitlines()[0]
    used.said.pop()  # the one time that the key is shown
    _succeed(used, site)
    _fail(used, site)
    used("audit", "list", "acme", "--json")
    used("secret", "list", "acme")
    used("key", "list", "acme")
    return used


def _succeed(used: Used, site: Site) -> None:
    site.put(f"/?token={ADDRESS}", "Entrance", "The way in to the handbook of our orchard.", ("/", "/apples", "/pears"))
    status, said = used.apply("docs", f"{site.url}/?token=${{ADDRESS}}", "/${GLOB}/**")
    assert (status, "a variable is part of an address" in " ".join(said.split())) == (0, True), said
    assert used("build", "acme/docs", KB_KEY=used.key)[0] == 0
    for command in ("status", "versions", "failures"):
        assert used(command, "acme/docs", "--json", KB_KEY=used.key)[0] == 0
    assert used("search", "acme/docs", "the way in", "--mode", "keyword", KB_KEY=used.key)[0] == 0


def _fail(used: Used, site: Site) -> None:
    site.everything = 403
    assert used("build", "acme/docs", KB_KEY=used.key)[0] == 1
    used("failures", "acme/docs")
    used("status", "acme/docs")
    for start, exclude in (
        ("${GLOB}", "/x"), (site.url, "${GLOB}"), (site.url, "/${UNOPENED}"), (site.url, "/${KB_HOME}")
    ):  # fmt: skip
        assert used.apply("docs", start, exclude)[0] != 0
    assert used.apply("open", "${SITE}", "/${GLOB}/**")[0] == 0
    used("secret", "set", "acme", "SITE", stdin=WRONG)
    assert used("build", "acme/open")[0] != 0
    # Now within Dagster, which keeps an error and its causes.
    assert used.launch("acme/open", str(uuid.uuid4())) == 1
    used("status", "acme/docs", KB_KEY=used.key[:-1] + "x")
    used("tenant", "list", KB_KEY=used.key)
    for url in DATABASE_URLS:
        assert used("status", "acme/docs", KB_DATABASE_URL=url)[0] != 0
    used("doctor", KB_DATABASE_URL=DATABASE_URLS[0], KB_SECRET_KEYS=PASSWORD)


def test_no_secret_is_found_in_a_home_or_in_what_was_said(used: Used) -> None:
    key_file = used.home / KEY_FILE
    stored = [(name, content) for name, content in contents(used.home) if name != KEY_FILE]
    assert {"control.db: secrets", "control.db: api_keys", "control.db: audit"} <= {name for name, _ in stored}
    assert any(name.startswith("dagster/") and ": event_logs" in name for name, _ in stored)

    for canary in (GLOB, PASSWORD, UNOPENED, WRONG, used.key.split("_")[3][:43], key_file.read_text().strip()):
        places = [name for name, content in (*stored, *used.said) if is_in(content, canary)]
        assert not places, canary
    # Of the address only pages know.
    places = [name for name, content in stored if is_in(content, ADDRESS)]
    assert [name for name in places if not name.startswith(PAGES)] == []
    assert any(name.startswith("data/") for name in places)  # or the search would find nothing
    shown = {command for command, said in used.said if is_in(said, ADDRESS)}
    assert shown <= {"search acme/docs", "failures acme/docs"}


def test_a_canary_is_found_however_it_is_spelled() -> None:
    for content in (
        f"x{GLOB}y", quote(GLOB, safe=""), quote(GLOB, safe="").lower(),
        base64.b64encode(f"user:{GLOB}".encode()).decode(),
        base64.urlsafe_b64encode(f"u:{GLOB}:x".encode()).decode(),
    ):  # fmt: skip
        assert is_in(content.encode(), GLOB), content
    assert not is_in(b"canary/glob", GLOB)
