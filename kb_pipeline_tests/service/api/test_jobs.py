"""Jobs over HTTP: asked for, listed, shown, cancelled and followed, each tenant its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from kb_pipeline.control.runs.requests import withdraw
from kb_pipeline.control.tenancy.api_keys import create_key
from kb_pipeline_tests.operations.home import Home
from kb_pipeline_tests.service.serving import API, DOCS, THEIRS, Client, in_process, key_of


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Home:
    """A home of two tenants' KBs of which nothing was built; the first has had a refresh that failed."""
    home = Home(tmp_path_factory.mktemp("jobs") / "home", models_dir)
    source = {"name": "site", "type": "web", "start_urls": ["http://127.0.0.1:9/"], "delay_s": 0}
    for key in (DOCS, THEIRS):
        home.apply_sources(key, [source])
        assert home.refresh(key).status == "failed"
    return home


@pytest.fixture(scope="module")
def opened(home: Home) -> Iterator[TestClient]:
    with in_process(home) as http:
        yield http


@pytest.fixture(scope="module")
def ours(home: Home, opened: TestClient) -> Client:
    return Client(opened, key_of(home))


@pytest.fixture
def job(home: Home, ours: Client) -> Iterator[str]:
    """The id of a job that waits."""
    yield str(ours.post("/kbs/acme.docs/jobs").json()["job_id"])
    withdraw(home.db, DOCS)


def frames(answer: Any) -> list[dict[str, Any]]:
    """Return the events of a stream of server-sent events, their ids as the stream gives them."""
    found = []
    for frame in answer.text.strip().split("\n\n"):
        fields = dict(line.partition(": ")[::2] for line in frame.splitlines())
        event = json.loads(fields["data"])
        assert (fields["id"], fields["event"]) == (str(event["id"]), event["type"])
        found.append(event)
    return found


def failed_job(ours: Client) -> dict[str, Any]:
    found: list[dict[str, Any]] = ours.get("/jobs", params={"state": "failed"}).json()["jobs"]
    return found[-1]


def test_a_job_is_accepted_and_tells_where_to_ask_for_it(ours: Client, job: str) -> None:
    again = ours.post("/kbs/acme.docs/jobs", json={})
    assert again.status_code == 202
    assert again.json() == {
        "job_id": job, "kb": "acme.docs", "state": "queued", "tracking_url": f"{API}/jobs/{job}",
        "events_url": f"{API}/jobs/{job}/events",
    }  # fmt: skip
    assert again.headers["location"] == again.json()["tracking_url"]
    shown = ours("GET", again.json()["tracking_url"]).json()
    assert (shown["state"], shown["percent"], shown["stage"], shown["last_event"]) == ("queued", 0, None, 1)
    assert [line["type"] for line in shown["log"]] == ["queued"]
    other = ours.post("/kbs/acme.docs/jobs", json={"retry": True}).json()
    assert other["job_id"] != job
    assert ours.post("/kbs/acme.docs/jobs", json={"nonsense": True}).status_code == 422


def test_forcing_takes_more_rights_than_building(home: Home, opened: TestClient) -> None:
    builder = Client(opened, key_of(home, "acme", "build"))
    assert builder.post("/kbs/acme.docs/jobs", json={"force": True}).status_code == 403
    assert Client(opened, key_of(home, "acme", "read")).post("/kbs/acme.docs/jobs").status_code == 403


def test_jobs_are_listed_newest_first_by_kb_and_state_a_page_at_a_time(ours: Client, job: str) -> None:
    page = ours.get("/jobs", params={"limit": 1}).json()
    assert [each["id"] for each in page["jobs"]] == [job]
    following = ours.get("/jobs", params={"limit": 1, "after": page["after"]}).json()
    assert [each["id"] for each in following["jobs"]] != [job]
    assert [each["id"] for each in ours.get("/jobs", params={"state": "queued"}).json()["jobs"]] == [job]
    assert {each["kb"] for each in ours.get("/jobs", params={"kb": "acme.docs"}).json()["jobs"]} == {"acme.docs"}
    assert ours.get("/jobs", params={"state": "nonsense"}).status_code == 422
    assert ours.get("/jobs", params={"kb": "globex.docs"}).status_code == 404


def test_a_job_that_waits_is_cancelled_at_once_and_stays_so(ours: Client, job: str) -> None:
    cancelled = ours.post(f"/jobs/{job}/cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (202, "cancelled")
    assert ours.post(f"/jobs/{job}/cancel").json() == cancelled.json()
    assert ours.post("/kbs/acme.docs/jobs").json()["job_id"] != job


def test_the_events_of_a_job_that_has_ended_are_all_told_and_resumed_after_any(ours: Client) -> None:
    job = failed_job(ours)
    told = frames(ours.get(f"/jobs/{job['id']}/events"))
    assert [each["id"] for each in told] == list(range(1, len(told) + 1))
    assert (told[0]["type"], told[-1]["type"], told[-1]["state"]) == ("started", "ended", "failed")
    for event in told[:-1]:
        by_header = ours.get(f"/jobs/{job['id']}/events", headers={"Last-Event-ID": str(event["id"])})
        by_url = ours.get(f"/jobs/{job['id']}/events", params={"after": event["id"]})
        assert frames(by_header) == frames(by_url) == told[event["id"] :]
    assert ours.get(f"/jobs/{job['id']}/events", params={"after": len(told)}).text == ""


@pytest.mark.parametrize("after", ["-1", "x", "99999", "1e3"])
def test_an_event_that_never_happened_is_nothing_to_go_on_after(ours: Client, after: str) -> None:
    job = failed_job(ours)["id"]
    assert ours.get(f"/jobs/{job}/events", headers={"Last-Event-ID": after}).status_code == 422


def test_a_web_socket_tells_the_same(home: Home, opened: TestClient, ours: Client) -> None:
    job = failed_job(ours)["id"]
    told = frames(ours.get(f"/jobs/{job}/events"))
    headers = {"Authorization": f"Bearer {key_of(home)}"}
    with opened.websocket_connect(f"{API}/jobs/{job}/ws?after=1", headers=headers) as socket:
        assert [socket.receive_json() for _ in told[1:]] == told[1:]
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
    assert closed.value.code == 1000


def test_another_tenants_job_is_answered_as_one_that_is_not_there(home: Home, opened: TestClient, job: str) -> None:
    theirs = Client(opened, key_of(home, "globex"))
    for method, path in (("GET", ""), ("POST", "/cancel"), ("GET", "/events")):
        answers = [theirs(method, f"{API}/jobs/{each}{path}") for each in (job, "0" * 32)]
        assert {answer.status_code for answer in answers} == {404}
        told = [answer.text.replace(each, "<id>") for answer, each in zip(answers, (job, "0" * 32), strict=True)]
        assert told[0] == told[1]
    assert theirs.get("/jobs", params={"after": job}).status_code == 404
    assert all(each["kb"] == "globex.docs" for each in theirs.get("/jobs").json()["jobs"])
    for headers in ({"Authorization": f"Bearer {key_of(home, 'globex')}"}, {}):
        with (
            pytest.raises(WebSocketDisconnect),
            opened.websocket_connect(f"{API}/jobs/{job}/ws", headers=headers) as socket,
        ):
            socket.receive_json()
    assert Client(opened, key_of(home)).get(f"/jobs/{job}").json()["state"] == "queued"


def test_a_key_for_other_kbs_sees_no_job_of_this_one(home: Home, opened: TestClient, job: str) -> None:
    key, _ = create_key(home.db, "acme", ["read", "build"], "tester", kbs=["faq"])
    client = Client(opened, key)
    assert client.get("/jobs").json()["jobs"] == []
    for method, path in (("GET", ""), ("POST", "/cancel"), ("GET", "/events")):
        assert client(method, f"{API}/jobs/{job}{path}").status_code == 404
