"""`kb mcp`: a process that a host starts, whose stdout holds nothing but the protocol."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client

from kb_pipeline.control.tenancy.api_keys import revoke_key
from kb_pipeline.service.mcp.server import TOOLS
from kb_pipeline.settings import as_environment
from kb_pipeline_tests.operations.home import Home
from kb_pipeline_tests.service.mcp.talking import MODES, over_stdio
from kb_pipeline_tests.service.mcp.test_budget import told
from kb_pipeline_tests.service.serving import key_of

HELLO = [
    {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}},
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
]  # fmt: skip


def search(number: int, **arguments: Any) -> dict[str, Any]:
    params = {"name": "search_kb", "arguments": {"kb": "acme.docs", "query": "apples", **arguments}}
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}


def lines(*messages: Any) -> bytes:
    texts = (each if isinstance(each, bytes) else json.dumps(each).encode() for each in [*HELLO, *messages])
    return b"".join(text + b"\n" for text in texts)


def environment(home: Home, key: str = "") -> dict[str, str]:
    return os.environ | as_environment(home.settings) | {"KB_KEY": key}


def start(home: Home, key: str = "") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "kb_pipeline", "mcp"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(home, key),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # whoever runs the tests may have it ignored
    )  # fmt: skip


def answers(out: bytes) -> dict[Any, Any]:
    """Read what stdout holds: every line a message."""
    messages = [json.loads(line) for line in out.splitlines()]
    assert all(each["jsonrpc"] == "2.0" for each in messages)
    return {each.get("id"): each for each in messages}


@pytest.mark.parametrize("mode", MODES)
def test_a_host_talks_with_the_command(library: Home, mode: str) -> None:
    async def talk(client: Client) -> None:
        assert [tool.name for tool in (await client.list_tools()).tools] == list(TOOLS)
        found = await client.call_tool("search_kb", {"kb": "acme.docs", "query": "slivovitz"})
        assert "slivovitz" in told(found)
        assert len(await _kbs(client)) == 2, "without a key it acts as the operator"

    over_stdio(library, talk, mode=mode)


def test_with_a_key_it_acts_within_the_rights_of_its_holder_while_they_last(library: Home) -> None:
    key = key_of(library, "acme", "read")

    async def talk(client: Client) -> None:
        assert "refresh_kb" not in [tool.name for tool in (await client.list_tools()).tools]
        assert await _kbs(client) == ["acme.docs"]
        revoke_key(library.db, "acme", key.split("_")[2], "tester")
        with pytest.raises(Exception, match="API key"):
            await client.call_tool("list_kbs", {})

    over_stdio(library, talk, key=key)


async def _kbs(client: Client) -> list[str]:
    result = await client.call_tool("list_kbs", {})
    return [each["kb"] for each in result.structured_content["kbs"]]


def test_what_a_file_asks_is_answered_before_the_command_ends(library: Home, tmp_path: Path) -> None:
    asked = tmp_path / "asked.jsonl"
    asked.write_bytes(lines(*(search(number) for number in range(1, 21))).rstrip(b"\n"))
    with asked.open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "kb_pipeline", "mcp"],
            stdin=file, capture_output=True, env=environment(library), check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = answers(done.stdout)
    assert found.keys() == set(range(21))
    assert all("structuredContent" in found[number]["result"] for number in range(1, 21))
    assert done.stderr == b""


def test_what_is_no_message_ends_nothing_and_reaches_no_stdout(library: Home) -> None:
    wrong: list[Any] = [
        b"garbage", b"", b"{", b"[]", b"[1, 2]", b"\xff\xfe\x00", b'{"jsonrpc": "2.0"}', b"9" * (5 << 20),
        {"jsonrpc": "2.0", "id": 1, "method": "none/such"}, {"jsonrpc": "2.0", "method": "notifications/none"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": 7}},
        {"jsonrpc": "2.0", "id": 3, "result": {}}, search(4, kb=None), b"[" * 100_000,
    ]  # fmt: skip
    with start(library) as process:
        out, err = process.communicate(lines(*wrong, search(9)))
    assert process.returncode == 0
    found = answers(out)
    assert "structuredContent" in found[9]["result"]
    assert found[1]["error"]["code"] == -32601
    assert found[4]["result"]["isError"]
    assert b"Traceback" not in err


def test_ctrl_c_ends_it(library: Home) -> None:
    with start(library) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(lines())
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == 0
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stdout.read() == b""
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()


def test_a_host_that_goes_away_ends_it(library: Home) -> None:
    with start(library) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write(lines(search(1)))
        process.stdin.close()
        assert b"Traceback" not in process.stderr.read()
        assert process.wait(60) in {0, 1}


def test_a_key_that_is_not_valid_is_one_line(library: Home) -> None:
    with start(library, "kb_acme_000000000000_x") as process:
        out, err = process.communicate(b"")
    assert (process.returncode, out) == (1, b"")
    assert err.count(b"\n") == 1
