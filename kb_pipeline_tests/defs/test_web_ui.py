"""Dagster's web UI in a real browser: a KB is materialized there, and its metadata and checks are seen.

Set KB_SCREENSHOT=docs/web-ui.png to renew the README's picture.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright
from sqlalchemy import select

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Refresh, RunRequest
from kb_pipeline.control.kbs.catalog import apply_spec
from kb_pipeline.control.runs.requests import request_run
from kb_pipeline.demo_site.server import demo_spec, serve_demo_site
from kb_pipeline.model import KbKey
from kb_pipeline.settings import load_settings
from kb_pipeline.spec.kb_file import parse_spec

CHROMIUM = shutil.which("chromium")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
KEY = KbKey("acme", "handbook")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed"),
]


@pytest.fixture
def ui(home: Path, tmp_path: Path) -> Iterator[str]:
    """`kb ui` on a home where the demo's KB is applied and asked for, but not built; sensors do that."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with serve_demo_site(0) as base_url:
        yaml = demo_spec(base_url)
        db = Database(load_settings().database_url)
        apply_spec(db, parse_spec(yaml, "demo"), yaml, "tester")
        request_run(db, KEY, [], "tester")
        with (tmp_path / "ui.log").open("wb") as log:
            command = [sys.executable, "-m", "kb_pipeline", "ui", "--port", str(port)]
            server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for(f"http://127.0.0.1:{port}/server_info")
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(server.pid, signal.SIGINT)
            server.wait(60)


def wait_for(url: str, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=2)
            return
        except OSError:
            time.sleep(0.3)
    raise TimeoutError(url)


def wait_for_ends(number: int, seconds: float = 180) -> set[str]:
    """Wait until so many refreshes have succeeded; return the ids of their runs."""
    db = Database(load_settings().database_url)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with db.read(KEY.tenant) as session:
            ended = {row.run_id: row.status for row in session.scalars(select(Refresh)) if row.ended_at}
        # One page of the sample site needs its scripts, which is said.
        assert set(ended.values()) <= {"ready_with_warnings", "unchanged"}, ended
        if len(ended) >= number:
            return set(ended)
        time.sleep(0.5)
    raise TimeoutError(f"{number} refreshes did not end")


def requested_run() -> str | None:
    with Database(load_settings().database_url).read(KEY.tenant) as session:
        return session.scalars(select(RunRequest)).one().run_id


def materialize(page: Page, ui: str) -> None:
    page.goto(f"{ui}/locations/kb_pipeline.definitions/jobs/refresh_kb")
    page.get_by_role("button", name="Materialize all").click()
    page.get_by_text("Select a partition or create one").click()
    page.get_by_role("menuitem").filter(has_text=str(KEY)).last.click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Launch 1 run").click()


def test_a_kb_is_refreshed_by_its_sensors_and_again_from_the_web_ui(ui: str) -> None:
    by_sensors = wait_for_ends(2)  # the first refresh of a new KB, and the one that was asked for
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1500, "height": 900})
        page.set_default_timeout(60_000)
        materialize(page, ui)
        assert wait_for_ends(3) > by_sensors
        assert requested_run() in by_sensors
        page.goto(f"{ui}/asset-groups")
        for asset in ("raw_documents", "documents", "chunks", "embeddings", "candidate_version", "published_version"):
            expect(page.get_by_text(asset).first).to_be_attached()
        page.goto(f"{ui}/assets/candidate_version?view=checks")
        for check in ("counts_reconcile", "vectors_valid", "not_shrunk"):
            expect(page.get_by_text(check).first).to_be_visible()
        page.goto(f"{ui}/assets/raw_documents?view=partitions&partition=acme%2Fhandbook")
        expect(page.get_by_text("Materialized", exact=True).first).to_be_visible()
        expect(page.get_by_text("dagster/row_count").first).to_be_visible()
        expect(page.get_by_text("raw_bytes").first).to_be_visible()
        if picture := os.environ.get("KB_SCREENSHOT"):
            page.wait_for_timeout(2000)
            page.screenshot(path=picture)
        browser.close()
