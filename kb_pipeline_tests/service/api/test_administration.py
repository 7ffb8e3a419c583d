"""Administration over HTTP: tenants, plans, keys, secrets, flags, the audit log; the operator's and a tenant's part."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from kb_pipeline.control.runs.requests import withdraw
from kb_pipeline.control.tenancy import operator_keys, secrets
from kb_pipeline.control.tenancy.api_keys import create_key
from kb_pipeline.control.tenancy.token_holder import SCOPES
from kb_pipeline.model import KbKey
from kb_pipeline_tests.operations.home import Home
from kb_pipeline_tests.service.serving import API, DOCS, THEIRS, Client, in_process, key_of

FLAG = "clean-focus"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Home:
    """A home of two tenants' KBs of which nothing was fetched."""
    home = Home(tmp_path_factory.mktemp("administration") / "home", models_dir)
    source = {"name": "site", "type": "web", "start_urls": ["http://127.0.0.1:9/"], "delay_s": 0}
    for key in (DOCS, THEIRS):
        home.apply_sources(key, [source])
    return home


@pytest.fixture(scope="module")
def http(home: Home) -> Iterator[TestClient]:
    with in_process(home) as opened:
        yield opened


@pytest.fixture(scope="module")
def operator(home: Home, http: TestClient) -> Client:
    return Client(http, operator_keys.create_key(home.db, "tester")[0])


@pytest.fixture(scope="module")
def admin(home: Home, http: TestClient) -> Client:
    """A client with a key of acme's that may do all that a tenant's key may."""
    return Client(http, key_of(home))


def put(client: Client, path: str, body: object) -> Any:
    return client("PUT", API + path, json=body)


def delete(client: Client, path: str, **query: object) -> Any:
    return client("DELETE", API + path, params=query)


def pages(client: Client, path: str, name: str, **query: object) -> list[dict[str, Any]]:
    """Return all items of a list, asked for one by one."""
    found: list[dict[str, Any]] = []
    after: dict[str, object] = {}
    while True:
        page = client.get(path, params={"limit": 1, **query, **after}).json()
        assert len(page[name]) <= 1
        found += page[name]
        if page["after"] is None:
            return found
        after = {"after": page["after"]}


def test_a_tenant_is_added_given_a_plan_suspended_and_resumed(home: Home, operator: Client, http: TestClient) -> None:
    assert operator.post("/plans", json={"plan": "gold", "limits": {"documents": 10}}).status_code == 201
    made = operator.post("/tenants", json={"tenant": "initech"})
    assert (made.status_code, made.headers["location"]) == (201, f"{API}/tenants/initech")
    assert (made.json()["plan"], made.json()["status"], made.json()["kbs"]) == ("default", "active", 0)
    assert operator.post("/tenants", json={"tenant": "initech"}).status_code == 409
    assert put(operator, "/tenants/initech/plan", {"plan": "gold"}).json()["plan"] == "gold"
    theirs = Client(http, key_of(home, "initech"))
    assert theirs.get("/kbs").status_code == 200
    held = operator.post("/tenants/initech/suspend", json={"reason": "unpaid"}).json()
    assert (held["status"], held["reason"]) == ("suspended", "unpaid")
    refused = theirs.get("/kbs")
    assert (refused.status_code, "unpaid" in refused.json()["detail"]) == (403, True)
    assert operator.post("/tenants/initech/resume").json()["status"] == "active"
    assert theirs.get("/kbs").status_code == 200
    assert operator.get("/tenants/initech").json() == operator.post("/tenants/initech/resume").json()


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/tenants", {"tenant": "Not A Name"}, 422),
        ("POST", "/tenants", {"tenant": "umbrella", "plan": "platinum"}, 404),
        ("POST", "/tenants", {"tenant": "umbrella", "quota": 3}, 422),
        ("GET", "/tenants/nobody", None, 404),
        ("PUT", "/tenants/nobody/plan", {"plan": "default"}, 404),
        ("PUT", "/tenants/acme/plan", {"plan": "platinum"}, 404),
        ("POST", "/tenants/nobody/suspend", None, 404),
        ("POST", "/tenants/acme/suspend", {"reason": "two\nlines"}, 422),
        ("POST", "/tenants/nobody/resume", None, 404),
        ("DELETE", "/tenants/nobody", None, 404),
        ("DELETE", "/tenants/nobody?now=true", None, 404),
        ("DELETE", "/tenants/acme?now=true&grace_days=3", None, 422),
        ("DELETE", "/tenants/acme?grace_days=-1", None, 422),
        ("GET", "/plans/platinum", None, 404),
        ("POST", "/tenants/nobody/keys", {"scopes": ["read"]}, 404),
        ("POST", "/tenants/acme/keys", {"scopes": []}, 422),
        ("POST", "/tenants/acme/keys", {"scopes": ["root"]}, 422),
        ("POST", "/tenants/acme/keys", {"scopes": ["read"], "kbs": []}, 422),
        ("POST", "/tenants/acme/keys", {"scopes": ["read"], "kbs": ["globex.docs"]}, 422),
        ("POST", "/tenants/acme/keys", {"scopes": ["admin"], "kbs": ["docs"]}, 422),
        ("POST", "/tenants/acme/keys", {"scopes": ["read"], "requests_per_minute": 0}, 422),
        ("POST", "/tenants/acme/keys", {"scopes": ["read"], "days": 10**9}, 422),
        ("POST", "/tenants/acme/keys", {"scopes": ["read"], "label": "two\nlines"}, 422),
        ("DELETE", "/tenants/acme/keys/000000000000", None, 404),
        ("DELETE", "/tenants/acme/keys/x%00y", None, 422),
        ("DELETE", "/operator-keys/000000000000", None, 404),
        ("PUT", "/tenants/acme/secrets/0NAME", {"value": "x"}, 422),
        ("PUT", "/tenants/nobody/secrets/NAME", {"value": "x"}, 404),
        ("DELETE", "/tenants/acme/secrets/NAME", None, 404),
        ("PUT", "/flags/nothing", {"variant": "on"}, 404),
        ("GET", "/flags/nothing/overrides", None, 404),
        ("PUT", f"/flags/{FLAG}", {"variant": "nothing"}, 422),
        ("PUT", f"/flags/{FLAG}", {"variant": "nothing", "tenant": "acme", "kb": "acme.docs"}, 422),
        ("PUT", f"/flags/{FLAG}/rollout", {"shares": [{"variant": "nothing", "percent": 1}]}, 422),
        ("PUT", f"/flags/{FLAG}/rollout", {"shares": [{"variant": "nothing", "percent": 101}]}, 422),
        ("DELETE", f"/flags/{FLAG}?kb=acme.docs", None, 404),
        ("GET", "/kbs/acme.nothing/flags", None, 404),
        ("POST", "/kbs/acme.docs/failures/retry", {"ids": ["a"]}, 422),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    operator: Client, method: str, path: str, body: object, status: int
) -> None:
    def state() -> list[Any]:
        return [
            operator.get(where).json() for where in ("/tenants", "/plans", "/flags", "/audit", "/audit?tenant=acme")
        ]

    before = state()
    assert operator(method, API + path, json=body).status_code == status
    assert state() == before


def test_tenants_are_listed_in_pages(operator: Client) -> None:
    for name in ("page-b", "page-a"):
        operator.post("/tenants", json={"tenant": name})
    names = [each["tenant"] for each in pages(operator, "/tenants", "tenants")]
    assert names == sorted(names)
    assert {"acme", "globex", "page-a", "page-b"} <= set(names)
    assert names == [each["tenant"] for each in operator.get("/tenants").json()["tenants"]]


def test_a_tenant_is_deleted_after_its_grace_unless_it_is_resumed(operator: Client) -> None:
    operator.post("/tenants", json={"tenant": "leaving"})
    told = delete(operator, "/tenants/leaving", grace_days=3)
    assert (told.status_code, told.json()["status"]) == (202, "deleting")
    left = datetime.fromisoformat(told.json()["delete_at"]) - datetime.now(UTC)
    assert timedelta(days=2) < left <= timedelta(days=3)
    assert operator.post("/tenants/leaving/resume").json()["delete_at"] is None


def test_a_tenant_is_deleted_at_once_with_a_receipt_that_is_kept(home: Home, operator: Client) -> None:
    home.apply_sources(KbKey("hooli", "docs"), [{"name": "s", "type": "web", "start_urls": ["http://127.0.0.1:9/"]}])
    put(operator, "/tenants/hooli/secrets/TOKEN", {"value": "x"})
    told = delete(operator, "/tenants/hooli", now=True)
    assert (told.status_code, told.json()["tenant"], told.json()["status"]) == (200, "hooli", "removed")
    assert told.json()["kbs"] == ["hooli.docs"]
    assert all(check["found"] == 0 for check in told.json()["receipt"]["checks"])
    assert operator.get("/tenants/hooli").status_code == 404
    assert delete(operator, "/tenants/hooli", now=True).json() == told.json()
    assert operator.post("/tenants", json={"tenant": "hooli"}).status_code == 409
    assert operator.post("/tenants", json={"tenant": "hooli", "reuse_key": True}).status_code == 201


def test_a_plan_file_is_applied_as_yaml_and_as_json(operator: Client) -> None:
    headers = {"Content-Type": "application/yaml"}
    text = "plan: silver\nlimits: {storage: 20 GB, shortest_interval: 12h}\nprices: {all-MiniLM-L6-v2: 0.5}\n"
    made = operator.post("/plans", content=text, headers=headers)
    assert (made.status_code, made.headers["location"]) == (201, f"{API}/plans/silver")
    assert made.json() == {"plan": "silver", "action": "created"}
    plan = operator.get("/plans/silver").json()
    assert plan["limits"] == {"storage": 20_000_000_000, "shortest_interval": 43_200.0}
    assert (plan["prices"], plan["tenants"]) == ({"all-MiniLM-L6-v2": 0.5}, 0)
    assert operator.post("/plans", content=text, headers=headers).json()["action"] == "unchanged"
    changed = operator.post("/plans", json={"plan": "silver", "limits": {"documents": 5}})
    assert (changed.status_code, changed.json()["action"]) == (200, "updated")
    assert {"default", "silver"} <= {each["plan"] for each in pages(operator, "/plans", "plans")}


def test_a_plan_file_that_cannot_be_is_refused_with_its_place(operator: Client) -> None:
    answer = operator.post("/plans", json={"plan": "silver", "limits": {"documents": -1, "pages": 3}})
    assert answer.status_code == 422
    assert {each["pointer"] for each in answer.json()["errors"]} == {"limits.documents", "limits.pages"}
    assert operator.post("/plans", content="x", headers={"Content-Type": "text/html"}).status_code == 422


def test_a_key_is_answered_once_and_does_what_it_is_for(admin: Client, http: TestClient) -> None:
    asked = {"scopes": ["read", "build"], "label": "site", "kbs": ["docs"], "requests_per_minute": 600, "days": 30}
    made = admin.post("/tenants/acme/keys", json=asked)
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    key = made.json()["key"]
    described = {name: value for name, value in made.json().items() if name != "key"}
    assert (described["scopes"], described["kbs"], described["requests_per_minute"]) == (
        ["read", "build"], ["docs"], 600,
    )  # fmt: skip
    left = datetime.fromisoformat(described["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=29) < left <= timedelta(days=30)
    assert described in admin.get("/tenants/acme/keys").json()["keys"]
    assert [each["id"] for each in Client(http, key).get("/kbs").json()["kbs"]] == ["acme.docs"]
    secret = key.split("_")[3][:43]
    for path in ("/tenants/acme/keys", "/audit"):
        assert secret not in admin.get(path, params={"limit": 1000}).text
    revoked = delete(admin, f"/tenants/acme/keys/{described['id']}").json()
    assert revoked["revoked_at"] is not None
    assert Client(http, key).get("/kbs").status_code == 401
    assert delete(admin, f"/tenants/acme/keys/{described['id']}").json()["revoked_at"] == revoked["revoked_at"]


def test_every_scope_that_there_is_can_be_asked_for(http: TestClient) -> None:
    schema = http.get(f"{API}/openapi.json").json()["components"]["schemas"]["NewKey"]
    assert schema["properties"]["scopes"]["items"]["enum"] == list(SCOPES)


def test_keys_are_listed_in_pages_the_oldest_first(home: Home, operator: Client) -> None:
    made = [create_key(home.db, "globex", ["read"], "tester", label=str(n))[1].id for n in range(3)]
    found = pages(operator, "/tenants/globex/keys", "keys")
    assert [each["id"] for each in found][-3:] == made


def test_nobody_gives_a_key_more_rights_than_they_have(home: Home, http: TestClient) -> None:
    limited = Client(http, key_of(home, "acme", "admin"))
    assert limited.post("/tenants/acme/keys", json={"scopes": ["admin"]}).status_code == 201
    refused = limited.post("/tenants/acme/keys", json={"scopes": ["admin", "manage"]})
    assert (refused.status_code, "manage" in refused.json()["detail"]) == (403, True)


@pytest.mark.parametrize("scopes", [("read", "build", "manage"), ("admin",)])
def test_a_tenants_administration_takes_the_scope_admin_for_all_of_it(
    home: Home, http: TestClient, scopes: tuple[Any, ...]
) -> None:
    client = Client(http, key_of(home, "acme", *scopes))
    told = {
        path: client.get(path).status_code
        for path in ("/tenants/acme", "/tenants/acme/keys", "/tenants/acme/secrets", "/flags", "/kbs/acme.docs/flags")
    }
    assert set(told.values()) == {200 if "admin" in scopes else 403}
    assert client.get("/audit").status_code == (403 if "admin" in scopes else 200)


def test_a_key_for_some_kbs_administrates_nothing(home: Home, http: TestClient) -> None:
    client = Client(http, create_key(home.db, "acme", ["read", "build", "manage"], "tester", kbs=["docs"])[0])
    for path in ("/tenants/acme", "/tenants/acme/keys", "/tenants/acme/secrets", "/flags", "/audit"):
        assert client.get(path).status_code == 403


def test_an_operator_key_is_answered_once_and_revoked(operator: Client, http: TestClient) -> None:
    made = operator.post("/operator-keys", json={"label": "terraform", "days": 1})
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    other = Client(http, made.json()["key"])
    assert other.get("/tenants").status_code == 200
    listed = pages(operator, "/operator-keys", "keys")
    assert (listed[-1]["id"], listed[-1]["label"]) == (made.json()["id"], "terraform")
    assert "key" not in listed[-1]
    assert delete(operator, f"/operator-keys/{made.json()['id']}").json()["revoked_at"] is not None
    assert other.get("/tenants").status_code == 401


def test_the_value_of_a_secret_is_kept_and_never_answered_or_logged(
    home: Home, admin: Client, caplog: pytest.LogCaptureFixture
) -> None:
    value = "hunter2-§-very-secret"
    with caplog.at_level(logging.DEBUG):
        told = put(admin, "/tenants/acme/secrets/TICKETS_TOKEN", {"value": value})
        wrong = put(admin, "/tenants/acme/secrets/TICKETS_TOKEN", {"value": value, "extra": value})
        nul = put(admin, "/tenants/acme/secrets/TICKETS_TOKEN", {"value": f"{value}\0"})
        half = admin(
            "PUT", f"{API}/tenants/acme/secrets/TICKETS_TOKEN", content=f'{{"value": "{value}\\ud800"}}',
            headers={"Content-Type": "application/json"},
        )  # fmt: skip
        long = put(admin, "/tenants/acme/secrets/TICKETS_TOKEN", {"value": value * 1000})
        kind = put(admin, "/tenants/acme/secrets/TICKETS_TOKEN", {"value": [value]})
        put(admin, "/tenants/acme/secrets/OTHER", {"value": value})
    assert (told.status_code, told.content) == (204, b"")
    assert [each.status_code for each in (wrong, nul, half, long, kind)] == [422] * 5
    listed = admin.get("/tenants/acme/secrets")
    assert [each["name"] for each in listed.json()["secrets"]] == ["OTHER", "TICKETS_TOKEN"]
    assert listed.json()["secrets"] == pages(admin, "/tenants/acme/secrets", "secrets")
    changes = admin.get("/audit", params={"limit": 1000})
    assert "secret.set" in changes.text
    said = [caplog.text, *(each.text for each in (wrong, nul, half, long, kind, listed, changes))]
    assert not any("hunter2" in each for each in said)
    assert secrets.variables_of(home.settings, home.db, "acme", ["TICKETS_TOKEN"]) == {"TICKETS_TOKEN": value}
    assert delete(admin, "/tenants/acme/secrets/TICKETS_TOKEN").status_code == 204
    assert delete(admin, "/tenants/acme/secrets/TICKETS_TOKEN").status_code == 404


def test_flags_are_set_rolled_out_and_cleared_and_a_kb_says_what_it_has_and_why(
    operator: Client, admin: Client
) -> None:
    def has(kb: str) -> tuple[str, str]:
        told = operator.get(f"/kbs/{kb}/flags").json()
        assert told["id"] == kb
        (found,) = [each for each in told["flags"] if each["flag"] == FLAG]
        return found["variant"], found["set_for"]

    assert has("acme.docs") == ("balanced", "default")
    assert put(operator, f"/flags/{FLAG}", {"variant": "recall", "kb": "acme.docs"}).json()["overrides"] == 1
    put(operator, f"/flags/{FLAG}", {"variant": "precision", "tenant": "globex"})
    rolled = put(operator, f"/flags/{FLAG}/rollout", {"shares": [{"variant": "recall", "percent": 100}]}).json()
    assert rolled["rollout"] == [{"variant": "recall", "percent": 100.0}]
    assert has("acme.docs") == ("recall", "kb")
    assert has("globex.docs") == ("precision", "tenant")
    of_acme = {"tenant": "acme", "kb": "acme.docs", "variant": "recall"}
    of_globex = {"tenant": "globex", "kb": None, "variant": "precision"}
    assert pages(operator, f"/flags/{FLAG}/overrides", "overrides") == [of_acme, of_globex]
    assert admin.get(f"/flags/{FLAG}/overrides").json() == {"overrides": [of_acme], "after": None}
    (shown,) = [each for each in admin.get("/flags").json()["flags"] if each["flag"] == FLAG]
    assert (shown["overrides"], sorted(shown["variants"])) == (1, ["balanced", "precision", "recall"])
    delete(operator, f"/flags/{FLAG}", kb="acme.docs")
    assert has("acme.docs") == ("recall", "rollout")
    assert put(operator, f"/flags/{FLAG}", {"variant": "precision"}).json()["default"] == "precision"
    cleared = delete(operator, f"/flags/{FLAG}").json()
    assert (cleared["default"], cleared["rollout"], cleared["overrides"]) == ("balanced", [], 1)
    delete(operator, f"/flags/{FLAG}", tenant="globex")
    assert has("globex.docs") == ("balanced", "default")


def test_the_audit_log_is_a_tenants_own_and_has_pages(operator: Client, admin: Client) -> None:
    ours = admin.get("/audit", params={"limit": 1000}).json()
    assert ours["after"] is None
    assert [each["number"] for each in ours["entries"]] == list(range(1, len(ours["entries"]) + 1))
    assert pages(admin, "/audit", "entries") == ours["entries"]
    assert operator.get("/audit", params={"tenant": "acme", "limit": 1000}).json() == ours
    assert ours["entries"][0]["action"] == "tenant.create"
    made = operator.post("/operator-keys", json={}).json()
    *_, last = pages(operator, "/audit", "entries")
    assert (last["action"], last["subject"]) == ("operator-key.create", made["id"])


def test_every_chain_of_the_audit_log_is_verified_in_pages(operator: Client) -> None:
    whole = operator.get("/audit/chains").json()["chains"]
    tenants = [each["tenant"] for each in whole]
    assert tenants == sorted(tenants)
    assert {"", "acme", "globex"} <= set(tenants)
    assert {each["broken_at"] for each in whole} == {None}
    assert pages(operator, "/audit/chains", "chains") == whole


def test_what_failed_is_asked_for_again_by_a_job_once_for_each_key(home: Home, admin: Client, http: TestClient) -> None:
    headers = {"Idempotency-Key": "again-1"}
    started = admin.post("/kbs/acme.docs/failures/retry", headers=headers)
    assert started.status_code == 202
    job = admin.get(f"/jobs/{started.json()['job_id']}").json()
    assert (job["kb"], job["options"], job["state"]) == ("acme.docs", ["retry"], "queued")
    replayed = admin.post("/kbs/acme.docs/failures/retry", headers=headers)
    assert (replayed.json(), replayed.headers["idempotency-replayed"]) == (started.json(), "true")
    withdraw(home.db, DOCS)
    reader = Client(http, key_of(home, "acme", "read"))
    assert reader.post("/kbs/acme.docs/failures/retry").status_code == 403
