"""From a KB file to answers, and through every way a refresh can go, by the command line alone."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kb_pipeline.control.coordination.leases import current_lease
from kb_pipeline.control.db.engine import Database
from kb_pipeline.model import KbKey
from kb_pipeline_tests.databases import ON_POSTGRES, control_url
from kb_pipeline_tests.kb import Kb
from kb_pipeline_tests.published import Published
from kb_pipeline_tests.site import Site


def test_a_site_becomes_a_version_that_answers(kb: Kb, site: Site) -> None:
    assert kb.apply(site).json == [{"kb": "acme/docs", "action": "created"}]
    built = kb.build()
    assert (built.status, built.json["status"], built.json["version"]) == (0, "ready", 1), built.err
    assert set(built.json["stages"]) == {"fetch", "clean", "chunk", "embed", "index"}
    assert {"in", "out", "unchanged", "rejected", "failed", "deleted"} <= set(built.json["stages"]["fetch"])
    answer = kb("search", "acme/docs", "when should I pick pears?", "--json").json
    assert answer["version"] == 1
    assert answer["hits"][0]["key"] == f"{site.url}/pears"
    assert set(answer["hits"][0]) == {
        "rank", "score", "key", "title", "headings", "text", "language", "document_id", "chunk_id", "start", "end",
        "passage",
    }  # fmt: skip
    listed = kb("documents", "acme/docs", "--json").lines
    assert sorted(row["title"] for row in listed) == ["Apples", "Orchard", "Pears", "Plums", "Quinces"]
    assert {row["run_id"] for row in listed} == {built.json["run_id"]}
    status = kb("status", "acme/docs", "--json").json
    assert (status["status"], status["live_version"], status["documents"], status["running"]) == ("ready", 1, 5, None)


def test_a_second_build_is_unchanged_and_fetches_no_body(published: Published) -> None:
    kb, site = published.kb, published.site
    site.asked.clear()
    tables = {p: p.stat().st_mtime_ns for p in (kb.folder / "home/data").rglob("*.manifest")}
    again = kb.build()
    assert (again.status, again.json["status"], again.json["version"]) == (0, "unchanged", 1)
    assert again.json["stages"]["embed"]["embedded"] == 0
    assert set(site.asked) <= {"/robots.txt", "/sitemap.xml"}
    assert {p: p.stat().st_mtime_ns for p in (kb.folder / "home/data").rglob("*.manifest")} == tables
    assert len(kb("versions", "acme/docs", "--json").json) == 1


def test_a_changed_page_costs_that_page(published: Published) -> None:
    kb, site = published.kb, published.site
    site.put("/plums", "Plums", "Plums are distilled into a clear brandy that is called slivovitz.")
    built = kb.build()
    stages = built.json["stages"]
    assert (built.json["status"], built.json["version"]) == ("ready", 2)
    assert (stages["fetch"]["unchanged"], stages["clean"]["unchanged"], stages["embed"]["embedded"]) == (4, 4, 1)
    hits = kb("search", "acme/docs", "slivovitz", "--mode", "keyword", "--json").json["hits"]
    assert [hit["key"] for hit in hits] == [f"{site.url}/plums"]
    old = kb("search", "acme/docs", "prunes", "--mode", "keyword", "--as-of", "1", "--json").json
    assert [hit["key"] for hit in old["hits"]] == [f"{site.url}/plums"]
    assert kb("search", "acme/docs", "prunes", "--mode", "keyword", "--json").json["hits"] == []


def test_a_page_shows_its_text_its_exact_bytes_and_where_it_came_from(published: Published) -> None:
    kb, site = published.kb, published.site
    page = kb("page", "acme/docs", f"{site.url}/apples", "--json").json
    assert "# Apples" in page["markdown"]
    raw = kb("page", "acme/docs", f"{site.url}/apples", "--raw").out
    assert raw == site.pages["/apples"]
    assert page["sha256"] == hashlib.sha256(raw.encode()).hexdigest()
    assert page["etag"]
    missing = kb("page", "acme/docs", f"{site.url}/nothing")
    assert (missing.status, "kb documents acme/docs" in missing.err) == (2, True)


def test_a_page_that_fails_keeps_its_last_good_text_and_is_reported(published: Published) -> None:
    kb, site = published.kb, published.site
    site.status["/plums"] = 403
    built = kb.build()
    assert (built.status, built.json["status"]) == (0, "unchanged")
    assert "1 pages failed (http_403 1)" in built.err
    (failure,) = kb("failures", "acme/docs", "--json").json
    assert (failure["key"], failure["reason"], failure["recoverable"]) == (f"{site.url}/plums", "http_403", True)
    assert len(kb("documents", "acme/docs", "--json").lines) == 5


def test_a_page_that_is_gone_is_deleted(published: Published) -> None:
    kb, site = published.kb, published.site
    del site.pages["/plums"]
    site.put("/", "Orchard", "The handbook of our orchard.", ("/apples", "/pears", "/quinces"))
    built = kb.build()
    assert (built.json["status"], built.json["stages"]["fetch"]["deleted"]) == ("ready", 1)
    assert len(kb("documents", "acme/docs", "--json").lines) == 4


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda site: site.pages.clear(), "not_found"),
        (lambda site: setattr(site, "everything", 500), "robots_unreachable"),
        (lambda site: site.put("/robots.txt", "User-agent: *\nDisallow: /\n", ""), ""),
    ],
    ids=["no page", "all errors", "odd robots.txt"],
)
def test_a_site_that_gives_nothing_publishes_nothing(kb: Kb, site: Site, break_it: object, says: str) -> None:
    assert callable(break_it)
    break_it(site)
    kb.apply(site)
    built = kb.build()
    if built.status == 0:  # an HTML page is no robots.txt: everything is allowed
        return
    assert (built.status, built.json["status"], built.json["version"]) == (1, "failed", None)
    assert "gave no page at all" in built.err
    assert says in built.err
    assert kb("search", "acme/docs", "apples").status == 2
    assert kb("failures", "acme/docs", "--json").json


def test_a_site_of_empty_pages_publishes_nothing(kb: Kb, site: Site) -> None:
    for path in list(site.pages):
        del site.pages[path]
    site.pages["/"] = "<html><body></body></html>"
    kb.apply(site)
    built = kb.build()
    assert (built.status, built.json["status"]) == (1, "failed")
    assert "no page gave a document" in built.err
    assert kb("status", "acme/docs", "--json").json["live_version"] is None


def test_an_unreachable_site_is_a_clear_failure(kb: Kb, site: Site) -> None:
    site.url = "http://127.0.0.1:9"  # the discard port: nobody listens
    kb.apply(site)
    built = kb.build()
    assert built.status == 1
    assert "gave no page at all" in built.err
    assert "127.0.0.1:9" in built.err


def test_private_addresses_stay_closed_unless_the_operator_opens_them(
    kb: Kb, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KB_ALLOW_PRIVATE_NETWORKS")
    kb.apply(site)
    built = kb.build()
    assert built.status == 1
    assert "KB_ALLOW_PRIVATE_NETWORKS" in built.err
    assert not site.asked


def apply_slowly(kb: Kb, site: Site, delay_s: float) -> None:
    spec = {"tenant": "acme", "kb": "docs", "sources": [
        {"name": "site", "type": "web", "start_urls": [f"{site.url}/"], "delay_s": delay_s}]}  # fmt: skip
    (kb.folder / "docs.yaml").write_text(json.dumps(spec))
    kb("apply", "docs.yaml")


def start_build(kb: Kb) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "kb_pipeline", "build", "acme/docs"]
    null = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=kb.folder, start_new_session=True, stdout=null, stderr=null)


def test_a_build_whose_worker_is_killed_has_failed_and_frees_its_kb(kb: Kb, site: Site) -> None:
    apply_slowly(kb, site, delay_s=1)
    running = start_build(kb)
    while not site.asked.total():
        time.sleep(0.05)
    (worker,) = map(int, Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split())
    os.kill(worker, signal.SIGKILL)
    assert running.wait(60) == 1
    status = kb("status", "acme/docs", "--json").json
    assert (status["status"], status["running"]) == ("failed", None)
    assert "the run's worker died" in status["last_run"]["message"]
    db = Database(control_url(kb.folder / "home"))
    assert current_lease(db, KbKey("acme", "docs")) is None
    db.dispose()


def test_a_cancelled_build_leaves_no_lease_and_the_next_one_finishes(kb: Kb, site: Site) -> None:
    for number in range(40):
        site.put(f"/more/{number}", f"More {number}", f"Page number {number} tells of tree number {number}.")
    site.put("/", "Orchard", "Our orchard.", (*(f"/more/{n}" for n in range(40)), "/apples", "/pears"))
    apply_slowly(kb, site, delay_s=0.1)
    running = start_build(kb)
    while site.asked.total() < 20:
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)  # Ctrl-C reaches the whole group
    assert running.wait(60) == 130
    status = kb("status", "acme/docs", "--json").json
    assert (status["status"], status["last_run"]["message"]) == ("cancelled", "cancelled")
    fetched_before = {path for path, count in site.asked.items() if count}
    built = kb.build()
    assert (built.status, built.json["status"]) == (0, "ready"), built.err
    assert built.json["stages"]["fetch"]["out"] == 43
    twice = [path for path, count in site.asked.items() if count > 1 and path.startswith("/more/")]
    assert fetched_before
    assert len(twice) <= 2, "only what was in flight may be fetched again"


def test_two_tenants_of_one_name_do_not_mix(published: Published) -> None:
    kb = published.kb
    other = (kb.folder / "docs.yaml").read_text().replace('"acme"', '"globex"')
    (kb.folder / "other.yaml").write_text(other)
    kb("apply", "other.yaml")
    assert kb("search", "globex/docs", "apples").status == 2
    assert kb("documents", "globex/docs").status == 2
    assert kb("failures", "globex/docs", "--json").json == []


def test_a_model_of_one_language_is_warned_about(kb: Kb, site: Site) -> None:
    german = (
        "Die Birnen reifen nach der Ernte nach und werden darum hart gepflückt. Man legt sie nebeneinander in "
        "flache Kisten, stellt diese in einen kühlen Keller und prüft sie jede Woche, denn eine faule Birne "
        "steckt alle anderen an. Nach einigen Wochen sind sie weich, süß und duften durch das ganze Haus."
    )
    site.put("/", "Birnen", german)
    applied = kb.apply(site, embedding={"model": "all-MiniLM-L6-v2"}, languages=["de"])
    assert (applied.status, "does not know de" in applied.err) == (0, True)
    built = kb.build()
    assert built.json["status"] == "ready_with_warnings"
    assert "does not know de" in built.err


def test_extract_gives_one_line_a_file_and_names_the_unreadable(kb: Kb, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        "<html><head><title>Plums</title></head><body><h1>Plums</h1><p>They are <b>blue</b>.</p></body></html>"
    )
    done = kb("extract", str(page), str(tmp_path / "missing.html"))
    good, bad = done.lines
    assert (done.status, good["title"], bad["error"]) == (1, "Plums", "unreadable")
    assert "**blue**" in good["markdown"]
    assert "They are blue." in good["text"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["build", "acme"], "'acme' is not a KB key: write tenant/kb"),
        (["build", "acme/none"], "no such KB here; apply its file first"),
        (["search", "../etc", "x"], "is not a KB key"),
        (["status", "acme/none"], "no such KB here"),
        (["apply", "none.yaml"], "give a readable UTF-8 YAML file"),
        (["search", "acme/none"], "Missing argument"),
        (["frobnicate"], "No such command"),
    ],
)
def test_wrong_usage_is_status_2_and_says_what_to_do(kb: Kb, arguments: list[str], says: str) -> None:
    done = kb(*arguments)
    assert done.status == 2
    assert says in done.err
    assert "Traceback" not in done.err


def test_an_unknown_model_or_a_bad_second_file_applies_nothing(kb: Kb, site: Site) -> None:
    assert kb.apply(site, kb="good").status == 0
    assert "bundled" in kb.apply(site, kb="bad", embedding={"model": "gpt-17"}).err
    done = kb("apply", "good.yaml", "bad.yaml")
    assert done.status == 2
    assert kb("status", "acme/bad").status == 2


def test_doctor_finds_everything_in_order(kb: Kb) -> None:
    done = kb("doctor", "--json")
    faults = {finding["check"] for finding in done.json if not finding["ok"]}
    assert faults == ({"daemons"} if ON_POSTGRES else set()), done.out  # a shared control plane is a server's
    assert done.status == (1 if faults else 0)
    assert {finding["check"] for finding in done.json} >= {"home", "control plane", "dagster", "embedding"}


def test_a_queued_refresh_says_its_request_by_which_its_run_is_found(published: Published) -> None:
    asked = published.kb("build", "acme/docs", "--queue")
    (waiting,) = published.kb("status", "acme/docs", "--json").json["requested"]
    assert f"acme/docs: queued as request {waiting['request']}" in asked.out
    assert "kb status acme/docs" in asked.out
