"""What happens to a KB over time: runs that die, runs that meet, versions that are no longer kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from kb_pipeline.control.coordination import leases
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Lease
from kb_pipeline.model import KbKey
from kb_pipeline.operations.housekeeping import tidy_all
from kb_pipeline.settings import load_settings
from kb_pipeline_tests.databases import control_url, rows_of
from kb_pipeline_tests.kb import Kb
from kb_pipeline_tests.published import Published
from kb_pipeline_tests.site import Site

KEY = KbKey("acme", "docs")


def control() -> Database:
    return Database(load_settings().database_url)


def expire_lease() -> None:
    with control().write_all() as session:
        session.get_one(Lease, ("acme", "docs")).expires_at = time.time() - 1


def test_a_build_killed_outright_leaves_the_live_version_and_the_next_one_goes_on(published: Published) -> None:
    kb, site = published.kb, published.site
    for number in range(60):
        site.put(f"/more/{number}", f"More {number}", f"Page number {number} tells of tree number {number}.")
    site.put("/", "Orchard", "Our orchard.", tuple(site.pages))
    site.asked.clear()
    sources = [{"name": "site", "type": "web", "start_urls": [f"{site.url}/"], "delay_s": 0.05}]
    kb.apply(site, sources=sources)
    command = [sys.executable, "-m", "kb_pipeline", "build", "acme/docs"]
    running = subprocess.Popen(command, cwd=kb.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while site.asked.total() < 30:
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)  # its run and its crawl die with it
    running.wait()
    expire_lease()
    assert kb("status", "acme/docs", "--json").json["status"] in ("interrupted", "failed")
    assert len(kb("documents", "acme/docs", "--json").lines) == 5
    time.sleep(2)
    before = site.asked.total()
    time.sleep(1)
    assert site.asked.total() == before, "a crawl outlived its run"
    built = kb.build()
    assert (built.status, built.json["status"], built.json["version"]) == (0, "ready", 2), built.err
    assert len(kb("documents", "acme/docs", "--json").lines) == 65
    twice = [path for path, count in site.asked.items() if count > 1 and path.startswith("/more/")]
    assert len(twice) <= 45, "at most what the last two seconds brought may be fetched again"


def test_a_build_says_who_is_writing_and_changes_nothing(kb: Kb, site: Site) -> None:
    kb.apply(site)
    db = control()
    with leases.hold_lease(db, KEY, "another-run"):
        waiting = subprocess.Popen(
            [sys.executable, "-m", "kb_pipeline", "build", "acme/docs"],
            cwd=kb.folder,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(3)
        leases.acquire_lease(db, KEY, "another-run")  # the other run is alive: it renews
        _, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 1
    assert "run another-run is writing this KB" in err
    assert not site.asked


def test_versions_beyond_their_retention_are_pruned_and_the_live_one_stays(published: Published) -> None:
    kb, site = published.kb, published.site
    for number in (2, 3):
        site.put("/plums", "Plums", f"Plums of the year {2020 + number} were blue.")
        kb.apply(site, retention={"versions": 2})
        assert kb.build().json["version"] == number
    assert [row["status"] for row in kb("versions", "acme/docs", "--json").json] == ["published", "published", "pruned"]
    freed = tidy_all(load_settings(), control(), "housekeeping-run")
    assert set(freed.as_json()) == {"acme/docs"}
    hits = kb("search", "acme/docs", "2023", "--mode", "keyword", "--json").json["hits"]
    assert [hit["key"] for hit in hits] == [f"{site.url}/plums"]
    old = kb("search", "acme/docs", "2022", "--mode", "keyword", "--as-of", "2", "--json").json["hits"]
    assert [hit["key"] for hit in old] == [f"{site.url}/plums"]
    assert kb("search", "acme/docs", "prunes", "--as-of", "1").status == 2


def test_no_output_names_a_secret_of_the_environment(kb: Kb, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_PATH", "hunter2")
    monkeypatch.setenv("KB_FILE_VARIABLES", "SECRET_PATH")
    sources = [
        {"name": "site", "type": "web", "start_urls": [site.url + "/"], "delay_s": 0, "exclude": ["/${SECRET_PATH}/**"]}
    ]
    assert kb.apply(site, sources=sources).status == 0
    shown = kb("status", "acme/docs")
    assert "hunter2" not in shown.out + shown.err
    for path in (kb.folder / "home").glob("control.db*"):
        assert b"hunter2" not in path.read_bytes()
    stored = list(rows_of(control_url(kb.folder / "home")))
    assert any("SECRET_PATH" in row for table, row in stored if table == "kbs")
    assert "hunter2" not in str(stored)
    assert os.environ["SECRET_PATH"] == "hunter2"


def test_a_run_over_some_assets_ends_as_partial_and_the_next_build_publishes(kb: Kb, site: Site) -> None:
    kb.apply(site)
    home = kb.folder / "home" / "dagster"
    done = subprocess.run(
        [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "kb_pipeline.definitions", "--select",
         "raw_documents,documents", "--partition", "acme/docs"],
        cwd=kb.folder, env=os.environ | {"DAGSTER_HOME": str(home)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    status = kb("status", "acme/docs", "--json").json
    assert (status["status"], status["live_version"]) == ("partial", None)
    assert "nothing was published" in status["last_run"]["message"]
    built = kb.build()
    assert (built.json["status"], built.json["stages"]["clean"]["unchanged"]) == ("ready", 5)


def test_refreshes_that_change_nothing_leave_nothing_on_disk(published: Published) -> None:
    kb = published.kb
    raw = kb.folder / "home" / "data" / "acme" / "docs" / "raw"
    segments = sorted(path.name for path in raw.iterdir())
    kb.build()
    assert sorted(path.name for path in raw.iterdir()) == segments
    assert not list((raw.parent / "journal").iterdir())
