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
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from playwright.sync_api import Page, expect, sync_playwright
from sqlalchemy import select

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Job, Refresh
from kb_pipeline.control.kbs.catalog import apply_spec
from kb_pipeline.control.runs.requests import request_run
from kb_pipeline.defs.instance import open_instance
from kb_pipeline.demo_site.server import demo_spec, serve_demo_site
from kb_pipeline.model import KbKey
from kb_pipeline.settings import load_settings
from kb_pipeline.spec.kb_file import parse_spec
from kb_pipeline_tests.published import Published

CHROMIUM = shutil.which("chromium")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
KEY = KbKey("acme", "handbook")
OWN_TAGS = {"dagster/partition": str(KEY), "kb/tenant": KEY.tenant, "kb/kb": KEY.kb, "kb/plan": "default",
            "kb/tenant.default": KEY.tenant}  # fmt: skip

expect.set_options(timeout=60_000)  # on a busy machine the page of a run loads its events for longer than 5 s

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed"),
]


@contextmanager
def served(log: Path) -> Iterator[str]:
    """`kb ui` on the test's home."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("wb") as stream:
        command = [sys.executable, "-m", "kb_pipeline", "ui", "--port", str(port)]
        server = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/server_info")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGINT)
        server.wait(60)


@pytest.fixture
def ui(home: Path, tmp_path: Path) -> Iterator[str]:
    """The web UI of a home where the demo's KB is applied and asked for, but not built; sensors do that."""
    with serve_demo_site(0) as base_url:
        yaml = demo_spec(base_url)
        db = Database(load_settings().database_url)
        apply_spec(db, parse_spec(yaml, "demo"), yaml, "tester")
        request_run(db, KEY, [], "tester")
        with served(tmp_path / "ui.log") as url:
            yield url


@contextmanager
def open_page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1500, "height": 900})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


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
        return session.scalars(select(Job).where(Job.requested_by == "tester")).one().run_id


def all_runs() -> list[dg.DagsterRun]:
    with open_instance(load_settings()) as instance:
        return list(instance.get_runs())


def materialize(page: Page, ui: str) -> None:
    page.goto(f"{ui}/locations/kb_pipeline.definitions/jobs/refresh_kb")
    page.get_by_role("button", name="Materialize all").click()
    page.get_by_text("Select a partition or create one").click()
    page.get_by_role("menuitem").filter(has_text=str(KEY)).last.click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Launch 1 run").click()


def test_a_kb_is_refreshed_by_its_sensors_and_again_from_the_web_ui(ui: str) -> None:
    by_sensor = wait_for_ends(1)  # a new KB that somebody has asked for needs no first refresh beside
    with open_page() as page:
        materialize(page, ui)
        assert wait_for_ends(2) > by_sensor
        assert {requested_run()} == by_sensor
        runs = all_runs()
        assert len(runs) == 2
        for run in runs:  # of the sensor and of the web UI
            assert run.tags.items() >= OWN_TAGS.items()
        page.goto(f"{ui}/asset-groups")
        for asset in ("raw_documents", "documents", "chunks", "embeddings", "candidate_version", "published_version"):
            expect(page.get_by_text(asset).first).to_be_attached()
        page.goto(f"{ui}/assets/candidate_version?view=checks")
        for check in ("counts_reconcile", "vectors_valid", "not_shrunk"):
            expect(page.get_by_text(check).first).to_be_visible()
        if picture := os.environ.get("KB_SCREENSHOT"):
            page.goto(f"{ui}/assets/candidate_version?view=checks&checkDetail=not_shrunk")
            page.wait_for_timeout(3000)
            page.screenshot(path=picture)
        page.goto(f"{ui}/assets/raw_documents?view=partitions&partition=acme%2Fhandbook")
        expect(page.get_by_text("Materialized", exact=True).first).to_be_visible()
        expect(page.get_by_text("dagster/row_count").first).to_be_visible()
        expect(page.get_by_text("raw_bytes").first).to_be_visible()


def test_a_held_kb_is_shown_as_held_beside_one_that_was_refreshed_after_it(
    published: Published, tmp_path: Path
) -> None:
    kb, site = published.kb, published.site
    site.put("/", "Orchard", "The handbook of our orchard.")
    for path in ("/apples", "/pears", "/plums"):
        del site.pages[path]
    held = kb.build()
    assert held.json["status"] == "held", held.err
    assert kb.apply(site, kb="other").status == 0
    assert kb.build("other").status == 0
    with served(tmp_path / "ui.log") as ui, open_page() as page:
        page.goto(f"{ui}/runs/{held.json['run_id']}")
        expect(page.get_by_text("held: acme/docs: not published").first).to_be_visible()
        expect(page.get_by_text("kb approve acme/docs 2").first).to_be_visible()
        expect(page.get_by_text("Stack Trace")).to_have_count(0)

        page.goto(f"{ui}/runs")
        expect(page.get_by_text("kb/status: held").first).to_be_visible()

        page.goto(f"{ui}/assets/candidate_version?view=checks")
        expect(page.get_by_text("Failed", exact=True)).to_have_count(2)  # not_shrunk, though the other KB passed it
        page.get_by_text("no_kb_held", exact=True).first.click()
        expect(page.get_by_text("1 of all KBs are held and wait for kb approve").first).to_be_visible()
        page.get_by_text("not_shrunk", exact=True).first.click()
        page.get_by_role("tab", name="Partitions").last.click()
        expect(page.get_by_text("Failed (1)")).to_be_visible()
        expect(page.get_by_text("Passed (1)")).to_be_visible()
        page.get_by_text("acme/docs", exact=True).locator("visible=true").last.click()
        expect(page.get_by_text("held: 3 of 5 documents vanished").first).to_be_visible()

        page.goto(f"{ui}/assets/candidate_version?view=partitions&partition=acme%2Fdocs")
        expect(page.get_by_text("failed, and did not materialize this asset").first).to_be_visible()
        expect(page.get_by_text("kb approve acme/docs 2").first).to_be_visible()
        expect(page.get_by_text("documents since version 1: 3 removed, 1 changed").first).to_be_visible()
