"""What programs change in a KB over HTTP: files, settings, versions, erasures; and what it says of each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from kb_pipeline_tests.operations.home import Home, quick_refreshes
from kb_pipeline_tests.service.serving import DOCS, THEIRS, Client, in_process, key_of
from kb_pipeline_tests.site import Site, plant_orchard, serve_site


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serve_site() as served:
        plant_orchard(served)
        yield served


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, site: Site) -> Home:
    """Return a home with two versions of a KB, of which the second has one page with another text."""
    found = Home(tmp_path_factory.mktemp("changing") / "home", models_dir)
    with quick_refreshes():
        for key in (DOCS, THEIRS):
            found.apply(site, key)
            assert found.refresh(key).version == 1
        site.put("/plums", "Plums", "Plums are distilled into a clear brandy that is called slivovitz.")
        assert found.refresh(DOCS).version == 2
    return found


@pytest.fixture(scope="module")
def acme(home: Home) -> Iterator[Client]:
    with in_process(home) as http:
        yield Client(http, key_of(home))


def yaml_of(kb: str, site: Site, **fields: object) -> dict[str, object]:
    source = {"name": "site", "type": "web", "start_urls": [f"{site.url}/"], "delay_s": 0}
    return {"tenant": "acme", "kb": kb, "sources": [source], **fields}


def test_a_kb_file_is_applied_as_yaml_and_as_json(acme: Client, site: Site) -> None:
    fields = yaml_of("wiki", site)
    headers = {"Content-Type": "application/yaml"}
    dry = acme.post("/kbs", params={"dry_run": True}, content=yaml.safe_dump(fields), headers=headers)
    assert (dry.status_code, dry.json()["action"], dry.json()["dry_run"]) == (200, "created", True)
    assert acme.get("/kbs/acme.wiki").status_code == 404
    made = acme.post("/kbs", content=yaml.safe_dump(fields), headers=headers)
    assert (made.status_code, made.headers["location"]) == (201, "/api/v1/kbs/acme.wiki")
    assert (made.json()["id"], made.json()["action"]) == ("acme.wiki", "created")
    changed = acme.post("/kbs", json=fields | {"chunking": {"max_tokens": 128}})
    assert (changed.status_code, changed.json()["action"]) == (200, "updated")
    assert acme.post("/kbs", json=fields | {"chunking": {"max_tokens": 128}}).json()["action"] == "unchanged"
    assert acme.get("/kbs/acme.wiki/settings").json()["settings"]["chunking"] == {"max_tokens": 128}


@pytest.mark.parametrize(
    ("body", "kind", "told"),
    [
        ("tenant: [", "application/yaml", "line"),
        ("{", "application/json", "not JSON"),
        ("x", "application/xml", "application/yaml"),
        ("x", "", "application/yaml"),
        (b"\xff", "application/yaml", "UTF-8"),
        ("[1]", "application/json", "mapping"),
        ("tenant: acme\nkb: wiki\n", "application/yaml", "sources"),
        ('{"tenant": "acme", "kb": "wiki", "sources": [], "shape": 1}', "application/json", "shape"),
        ("[" * 100_000, "application/json", "not JSON"),
    ],
)
def test_a_kb_file_that_cannot_be_is_refused_with_its_place(
    acme: Client, body: str | bytes, kind: str, told: str
) -> None:
    answer = acme.post("/kbs", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 422
    assert told in answer.text


def test_a_file_of_another_tenant_is_refused_whether_or_not_it_exists(acme: Client, site: Site) -> None:
    told = [acme.post("/kbs", json=yaml_of("docs", site) | {"tenant": tenant}) for tenant in ("globex", "nobody")]
    assert {each.status_code for each in told} == {403}
    assert told[0].content == told[1].content


def test_settings_are_changed_by_a_merge_patch(acme: Client, site: Site) -> None:
    acme.post("/kbs", json=yaml_of("patched", site, languages=["en"], chunking={"max_tokens": 128}))
    asked = {"chunking": {"overlap_tokens": 8}, "languages": None}
    dry = acme("PATCH", "/api/v1/kbs/acme.patched/settings?dry_run=true", json=asked).json()
    assert {each["field"] for each in dry["changes"]} == {"chunking.overlap_tokens", "languages"}
    done = acme("PATCH", "/api/v1/kbs/acme.patched/settings", json=asked)
    assert (done.status_code, done.json()["action"]) == (200, "updated")
    settings = acme.get("/kbs/acme.patched/settings").json()
    assert settings["settings"]["chunking"] == {"max_tokens": 128, "overlap_tokens": 8}
    assert "languages" not in settings["settings"]
    for wrong in ({"kb": "other"}, {"tenant": None}, {"chunking": {"max_tokens": -1}}, {"nonsense": 1}):
        assert acme("PATCH", "/api/v1/kbs/acme.patched/settings", json=wrong).status_code == 422
    assert acme.get("/kbs/acme.patched/settings").json() == settings


def test_two_versions_are_compared_and_the_feed_has_every_change(acme: Client) -> None:
    diff = acme.get("/kbs/acme.docs/diff", params={"from": 1, "to": 2}).json()
    assert (diff["id"], diff["earlier"], diff["later"]) == ("acme.docs", 1, 2)
    assert (diff["documents"]["added"], diff["documents"]["changed"], diff["documents"]["removed"]) == (0, 1, 0)
    assert [key.rpartition("/")[2] for key in diff["changed"]] == ["plums"]
    assert acme.get("/kbs/acme.docs/diff", params={"from": 1}).json() == diff, "to the live one"
    feed = acme.get("/kbs/acme.docs/feed", params={"from": 1, "to": 2})
    assert feed.headers["content-type"] == "application/jsonl"
    changes = [json.loads(line) for line in feed.text.splitlines()]
    assert {(each["kind"], each["change"]) for each in changes} >= {("document", "changed"), ("chunk", "added")}
    assert acme.get("/kbs/acme.docs/diff", params={"from": 9}).status_code == 404
    assert acme.get("/kbs/acme.docs/feed", params={"from": 9}).status_code == 404
    assert acme.get("/kbs/acme.docs/diff").status_code == 422


def test_an_earlier_version_is_made_live_again(acme: Client) -> None:
    told = acme.post("/kbs/acme.docs/rollback", json={"version": 1})
    assert told.json() == {"id": "acme.docs", "version": 1, "rolled_back": 2}
    assert acme.get("/kbs/acme.docs/search", params={"q": "slivovitz", "mode": "keyword"}).json()["hits"] == []
    assert acme.post("/kbs/acme.docs/rollback", json={"version": 1}).status_code == 422, "it is live already"
    assert acme.post("/kbs/acme.docs/rollback", json={"version": 99}).status_code == 404
    assert acme.post("/kbs/acme.docs/rollback", json={"version": 2}).json()["rolled_back"] == 1
    assert acme.post("/kbs/acme.docs/versions/2/approve").status_code == 422, "it is not held"


def test_what_became_of_every_key_is_told(acme: Client, site: Site) -> None:
    assert acme.get("/kbs/acme.docs/failures").json() == {"failures": [], "total": 0, "after": None}
    account = acme.get("/kbs/acme.docs/account").json()
    left = acme.get("/kbs/acme.docs/left-out", params={"limit": 1000}).json()["left_out"]
    assert account["known"] == account["documents"] + account["aliases"] + account["duplicates"] + len(left)
    told = acme.get("/kbs/acme.docs/explain", params={"url": f"{site.url}/apples"}).json()
    assert told["sources"][0]["is_known"]
    assert acme.get("/kbs/acme.docs/explain", params={"url": "no address"}).status_code == 422
    assert acme.get("/kbs/acme.docs/left-out", params={"reason": "nonsense"}).status_code == 422


def test_usage_and_limits_are_the_tenants_own(acme: Client) -> None:
    rows = acme.get("/usage", params={"by": "operation"}).json()
    assert {row["tenant"] for row in rows["usage"]} == {"acme"}
    assert {"fetch", "embed"} <= {row["operation"] for row in rows["usage"]}
    first = acme.get("/usage", params={"limit": 1}).json()
    assert (len(first["usage"]), first["skip"]) == (1, 1)
    quotas = acme.get("/quotas").json()
    assert {"pages_per_day", "storage"} <= {each["limit"] for each in quotas["limits"]}
    assert acme.get("/limits").json() == quotas
    for path in ("/usage", "/quotas"):
        told = [acme.get(path, params={"tenant": tenant}) for tenant in ("globex", "nobody")]
        assert {each.status_code for each in told} == {404}
        assert told[0].text.replace("globex", "nobody") == told[1].text
    assert acme.get("/usage", params={"since": "yesterday"}).status_code == 422


def test_a_document_is_made_again_from_its_bytes(acme: Client) -> None:
    first = acme.get("/kbs/acme.docs/documents", params={"limit": 1}).json()["documents"][0]
    told = acme.get(f"/kbs/acme.docs/documents/{first['document_id']}/replay").json()
    assert (told["document_id"], told["matches"]) == (first["document_id"], True)


def test_a_document_is_erased_for_good(acme: Client, site: Site) -> None:
    key = f"{site.url}/plums"
    plan = acme.post("/kbs/acme.docs/erasures", json={"key": key, "dry_run": True}).json()
    assert (plan["status"], plan["id"], plan["versions"]) == ("planned", "acme.docs", [1, 2])
    assert acme.post("/kbs/acme.docs/erasures/lift", json={"key": key}).status_code == 404
    receipt = acme.post("/kbs/acme.docs/erasures", json={"key": key}).json()
    assert (receipt["status"], receipt["id"], receipt["document_ids"]) == ("erased", "acme.docs", plan["document_ids"])
    assert acme.get("/kbs/acme.docs/search", params={"q": "slivovitz", "mode": "keyword"}).json()["hits"] == []
    assert acme.post("/kbs/acme.docs/erasures/lift", json={"key": key}).json()["key"] == key
    assert acme.post("/kbs/acme.docs/erasures", json={"key": "http://no.example/"}).status_code == 404


def test_removing_a_kb_is_the_operators(acme: Client) -> None:
    assert acme("DELETE", "/api/v1/kbs/acme.docs").status_code == 403
    assert acme.get("/kbs/acme.docs").status_code == 200
