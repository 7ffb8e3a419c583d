"""`/mcp`: by the SDK's client against `kb serve`, and message by message where clients do not come through."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from mcp.client import Client
from starlette.testclient import TestClient

import kb_pipeline
from kb_pipeline.access_settings import AccessSettings
from kb_pipeline.control.tenancy.api_keys import revoke_key
from kb_pipeline.service.app import create_app
from kb_pipeline.service.mcp.http import METADATA_PATH, PATH
from kb_pipeline.service.mcp.server import TOOLS
from kb_pipeline_tests.operations.home import MODES as SEARCH_MODES
from kb_pipeline_tests.operations.home import Home
from kb_pipeline_tests.service.mcp.talking import MODES, over_http
from kb_pipeline_tests.service.mcp.test_budget import told
from kb_pipeline_tests.service.mcp.test_server import CALLS
from kb_pipeline_tests.service.serving import API, PROBLEM, key_of, served

ACCEPT = {"Accept": "application/json, text/event-stream"}
QUERIES = ["apples", "how long do they keep", "slivovitz", "row 7", "Früchte", "what is hard and cannot be eaten raw"]


@pytest.fixture(scope="module")
def http(library: Home) -> Iterator[TestClient]:
    app = create_app(kb_pipeline.open(settings=library.settings))
    with TestClient(app, base_url="http://localhost:8000", raise_server_exceptions=False) as opened:
        yield opened


def ask(http: TestClient, key: str | None, method: str, params: dict[str, Any] | None = None, **headers: Any) -> Any:
    token = {"Authorization": f"Bearer {key}"} if key is not None else {}
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
    return http.post(PATH, json=message, headers=ACCEPT | token | headers)


@pytest.mark.parametrize("mode", MODES)
def test_a_client_talks_with_the_service(library: Home, mode: str) -> None:
    async def talk(client: Client) -> list[str]:
        assert [tool.name for tool in (await client.list_tools()).tools] == list(TOOLS)
        assert len((await client.list_resources()).resources) == 8
        found = await client.call_tool("search_kb", {"kb": "acme.docs", "query": "slivovitz", "k": 2})
        assert "slivovitz" in told(found)
        theirs = await client.call_tool("search_kb", {"kb": "globex.docs", "query": "slivovitz"})
        assert theirs.is_error
        return [client.protocol_version]

    with served(library) as (address, _):
        assert over_http(address, key_of(library), talk, mode) == [
            {"auto": "2026-07-28", "legacy": "2025-11-25"}[mode]
        ]  # fmt: skip


def test_hits_are_those_of_the_api_id_for_id(library: Home, http: TestClient) -> None:
    key = key_of(library)
    for query in QUERIES:
        for mode in SEARCH_MODES:
            asked = {"query": query, "k": 8, "mode": mode}
            answer = http.post(f"{API}/kbs/acme.docs/search", json=asked, headers={"Authorization": f"Bearer {key}"})
            arguments = {"kb": "acme.docs", "max_tokens": 25_000, **asked}
            result = ask(http, key, "tools/call", {"name": "search_kb", "arguments": arguments}).json()["result"]
            hits = answer.json()["hits"]
            assert [(each["chunk"], each["document"], each["score"], each["start"], each["end"], each["text"])
                    for each in result["structuredContent"]["hits"]] == [
                (each["chunk_id"], each["document_id"], each["score"], each["start"], each["end"], each["text"])
                for each in hits
            ]  # fmt: skip


@pytest.mark.parametrize("tool", TOOLS)
def test_no_tool_is_called_with_a_wrong_token(library: Home, http: TestClient, tool: str) -> None:
    revoked = key_of(library)
    revoke_key(library.db, "acme", revoked.split("_")[2], "tester")
    arguments = {"kb": "acme.docs"} | CALLS.get(tool, {}) if tool in CALLS else {}
    for key in (None, "", "kb_acme_000000000000_x", revoked, revoked + "x"):
        answer = ask(http, key, "tools/call", {"name": tool, "arguments": arguments})
        assert answer.status_code == 401
        assert answer.headers["content-type"] == PROBLEM
        assert answer.headers["www-authenticate"].startswith("Bearer ")
        assert answer.headers["www-authenticate"].endswith(
            f'resource_metadata="http://localhost:8000{METADATA_PATH}"'
        )  # fmt: skip


def test_who_has_no_token_yet_finds_how_to_get_one(library: Home, http: TestClient) -> None:
    said = http.get(METADATA_PATH)
    assert said.status_code == 200
    assert said.json() == {
        "resource": "http://localhost:8000/mcp",
        "scopes_supported": ["read", "build", "manage"],
        "bearer_methods_supported": ["header"],
        "resource_name": "kb_pipeline",
    }
    access = AccessSettings(oidc_issuer="https://id.example.com", oidc_audience="kb")
    with TestClient(create_app(kb_pipeline.open(settings=replace(library.settings, access=access)))) as trusting:
        said = trusting.get(METADATA_PATH, headers={"Host": "localhost"})
        assert said.json()["authorization_servers"] == ["https://id.example.com"]
    behind = replace(library.settings, public_url="https://kb.example.com")
    with TestClient(create_app(kb_pipeline.open(settings=behind)), base_url="http://10.0.0.7:8000") as proxied:
        assert proxied.get(METADATA_PATH).json()["resource"] == "https://kb.example.com/mcp"
        refused = ask(proxied, None, "tools/list")
        url = f"https://kb.example.com{METADATA_PATH}"
        assert refused.headers["www-authenticate"].endswith(f'resource_metadata="{url}"')


def test_only_names_of_its_own_and_addresses_reach_the_service(library: Home, http: TestClient) -> None:
    key = key_of(library)
    for headers, status in (
        ({"Host": "localhost"}, 200),
        ({"Host": "10.1.2.3:8000"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "attacker.example"}, 421),
        ({"Host": "localhost.attacker.example"}, 421),
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Origin": "https://attacker.example"}, 403),
        ({"Origin": "null"}, 403),
    ):
        answer = ask(http, key, "tools/list", None, **headers)
        assert answer.status_code == status, headers
        if status != 200:
            assert answer.headers["content-type"] == PROBLEM
            assert "KB_ALLOWED_HOSTS" in answer.json()["detail"]
    known = replace(library.settings, allowed_hosts=("kb",))
    with TestClient(create_app(kb_pipeline.open(settings=known)), base_url="http://kb:8000") as named:
        assert ask(named, key, "tools/list").status_code == 200


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"method": "GET"}, 405),
        ({"method": "DELETE"}, 405),
        ({"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 400),
        ({"content": b"x" * (1 << 20) + b"y"}, 413),
        ({"json": {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, "headers": {"Accept": "text/html"}}, 406),
        ({"content": b"{"}, 400),
        ({"json": [1, 2]}, 400),
        ({"json": {"jsonrpc": "1.0"}}, 400),
    ],
    ids=lambda given: str(given)[:40],
)
def test_what_is_no_message_is_refused_and_the_next_one_answered(
    library: Home, http: TestClient, options: dict[str, Any], status: int
) -> None:
    key = key_of(library)
    headers = (
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"} | ACCEPT | options.pop("headers", {})
    )
    answer = http.request(options.pop("method", "POST"), PATH, headers=headers, **options)
    assert answer.status_code == status
    if answer.headers["content-type"] == PROBLEM:
        assert answer.json()["detail"]
    else:
        assert json.loads(answer.text)["error"]["code"] < 0
    assert ask(http, key, "tools/list").status_code == 200


def test_a_message_takes_no_session_and_no_handshake(library: Home, http: TestClient) -> None:
    answer = ask(http, key_of(library), "tools/list")
    assert "mcp-session-id" not in answer.headers
    assert [tool["name"] for tool in answer.json()["result"]["tools"]] == list(TOOLS)


def test_the_endpoint_is_no_part_of_the_described_api(http: TestClient) -> None:
    assert PATH not in http.get(f"{API}/openapi.json").json()["paths"]
