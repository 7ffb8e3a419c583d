"""`kb list`, `status`, `logs` and `cancel`."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

from kb_pipeline_tests.kb import Done, Kb
from kb_pipeline_tests.published import Published
from kb_pipeline_tests.site import Site


def test_kbs_are_listed_with_state_version_and_counts(published: Published) -> None:
    kb = published.kb
    kb.apply(published.site, kb="wiki", schedule={"cron": "0 3 * * *"})
    rows = [line.split("\t") for line in kb("list").out.splitlines()]
    assert [row[:5] for row in rows] == [["acme/docs", "ready", "1", "5", "0"], ["acme/wiki", "new", "", "0", "0"]]
    last, following = rows[0][6], rows[1][7]
    assert datetime.fromisoformat(last) <= datetime.now(UTC) <= datetime.fromisoformat(following)
    assert kb("list", "--columns", "kb").out == "acme/docs\nacme/wiki\n"
    assert kb("list", "acme", "--state", "new", "--columns", "kb").out == "acme/wiki\n"
    assert kb("list", "--limit", "1", "--json").json[0]["kb"] == "acme/docs"
    assert kb("list", "nobody").status == 2
    assert kb("list", "--watch").status == 2  # there is no terminal
    unknown = kb("list", "--columns", "kb,stat")
    assert (unknown.status, "did you mean state?" in unknown.err) == (2, True)


def test_a_status_says_all_there_is_and_nothing_that_is_not(published: Published) -> None:
    kb = published.kb
    kb.apply(published.site, kb="wiki", schedule={"cron": "0 3 * * *", "timezone": "Europe/Berlin"})
    told = kb("status", "acme/docs").out
    fields = dict(line.split("\t", 1) for line in told.splitlines() if line.count("\t") == 1)
    assert (fields["status"], fields["live version"], fields["documents"]) == ("ready", "1", "5")
    assert fields["last refresh"].startswith("ready, 20")
    assert "fetch\tin 5\tout 5\t" in told
    new = kb("status", "acme/wiki").out
    assert "schedule\t0 3 * * * (Europe/Berlin), next " in new
    assert "live version\tnone yet" in new
    both = kb("status").out
    assert both == f"{told}\n{new}"
    assert "None" not in both
    assert [each["kb"] for each in kb("status", "--json").json] == ["acme/docs", "acme/wiki"]


def test_a_key_that_is_nearly_one_is_told_which(published: Published) -> None:
    told = published.kb("status", "acme/dosc")
    assert told.status == 2
    assert "acme/dosc: no such KB here; did you mean acme/docs?" in told.err


def test_a_held_kb_says_why_and_what_to_do(published: Published) -> None:
    kb, site = published.kb, published.site
    for path in ("/apples", "/pears"):
        site.status[path] = 404
    assert kb.build().status == 3
    told = kb("status", "acme/docs").out
    assert "held\tversion 2: " in told
    assert "to publish it\tkb approve acme/docs 2" in told
    row = kb("list", "--columns", "state,held,version").out
    assert row == "held\t2\t1\n"


def test_logs_tell_what_a_refresh_did(published: Published) -> None:
    kb = published.kb
    rows = [line.split("\t") for line in kb("logs", "acme/docs").out.splitlines()]
    assert ["raw_documents", "begins"] in [row[2:] for row in rows]
    assert any(row[3].startswith("check ") and " passed" in row[3] for row in rows)
    assert rows[-1][2:] == ["", "succeeded"]
    assert all(datetime.fromisoformat(row[0]) for row in rows)
    run = kb("status", "acme/docs", "--json").json["last_run"]["run_id"]
    assert kb("logs", "acme/docs", "--run", run, "--follow").out.count("\n") == len(rows)
    unknown = kb("logs", "acme/docs", "--run", "no-such-run")
    assert (unknown.status, "no run no-such-run" in unknown.err) == (2, True)


def test_what_waits_is_withdrawn(published: Published) -> None:
    kb = published.kb
    assert kb("cancel", "acme/docs").out == "acme/docs: nothing runs or waits\n"
    assert kb("build", "acme/docs", "--queue").status == 0
    assert kb("list", "--columns", "state").out == "queued\n"
    assert kb("cancel", "acme/docs", "--json").json == {
        "kb": "acme/docs", "requests": 1, "runs": [], "still_running": [],
    }  # fmt: skip
    assert kb("list", "--columns", "state").out == "ready\n"


def test_what_runs_is_told_to_end_and_keeps_the_live_version(published: Published) -> None:
    kb, site = published.kb, published.site
    site.headers = _slowly
    ended: list[Done] = []
    building = threading.Thread(target=lambda: ended.append(kb.build()))
    building.start()
    _wait_for_stage(kb)
    cancelled = kb("cancel", "acme/docs")
    building.join(60)
    assert "is cancelled; what it fetched is kept, and the live version stays" in cancelled.out, cancelled
    assert ended
    assert ended[0].status != 0
    status = kb("status", "acme/docs", "--json").json
    assert (status["live_version"], status["running"]) == (1, None)
    site.headers = dict
    assert kb.build().json["status"] == "unchanged"


def _slowly() -> dict[str, str]:
    time.sleep(2.0)
    return {}


def _wait_for_stage(kb: Kb) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        running = kb("status", "acme/docs", "--json").json["running"]
        if running and running["stage"] == "fetch":
            return
    raise AssertionError("the refresh did not begin")


def test_a_site_that_is_not_there_leaves_a_failure_to_be_seen(kb: Kb, site: Site) -> None:
    site.status["/"] = 500
    assert kb.apply(site).status == 0
    kb.build()
    assert kb("list", "--columns", "state,failures").out.split("\t")[1] == "1\n"
