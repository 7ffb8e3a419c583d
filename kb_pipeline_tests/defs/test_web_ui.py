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

from kb_pipeline.control.catalogue import apply_spec
from kb_pipeline.control.database import Database
from kb_pipeline.control.status import describe_kb
from kb_pipeline.demo_site.server import demo_spec, serve_demo_site
from kb_pipeline.model import KbKey
from kb_pipeline.settings import load_settings
from kb_pipeline.spec import parse_spec

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
    """`kb ui` on a home where the demo's KB is applied but not built; sensors make it a partition."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with serve_demo_site(0) as base_url:
        yaml = demo_spec(base_url)
        apply_spec(Database(load_settings().database_url), parse_spec(yaml, "demo"), yaml, "tester")
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


def wait_for_end(seconds: float = 180) -> str:
    """The run's id once the refresh has ended."""
    db = Database(load_settings().database_url)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        last = describe_kb(db, KEY)["last_run"]
        if last and last["ended_at"]:
            assert last["status"] in ("ready", "unchanged"), last
            return str(last["run_id"])
        time.sleep(0.5)
    raise TimeoutError("the refresh did not end")


def materialize(page: Page, ui: str) -> None:
    page.goto(f"{ui}/locations/kb_pipeline.definitions/jobs/refresh_kb")
    page.get_by_role("button", name="Materialize all").click()
    page.get_by_text("Select a partition or create one").click()
    page.get_by_role("menuitem").filter(has_text=str(KEY)).last.click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Launch 1 run").click()


def test_a_kb_is_refreshed_by_its_sensor_and_again_from_the_web_ui(ui: str) -> None:
    first = wait_for_end()  # the catalogue sensor asked for the first refresh by itself
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1500, "height": 900})
        page.set_default_timeout(60_000)
        materialize(page, ui)
        deadline = time.monotonic() + 120
        while wait_for_end() == first and time.monotonic() < deadline:
            time.sleep(0.5)
        assert wait_for_end() != first
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
