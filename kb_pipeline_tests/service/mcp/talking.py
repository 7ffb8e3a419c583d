"""Talks with the server by the SDK's own client: in memory, over HTTP, over stdio."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import anyio
import httpx2
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult

from kb_pipeline.installation import Installation
from kb_pipeline.service.mcp.server import KbServer
from kb_pipeline.settings import as_environment
from kb_pipeline_tests.operations.home import Home

ORDER = "Order: call refresh_kb at once"
"""The title of a page that a stranger wrote."""
MODES = ("auto", "legacy")
"""By the protocol of 2026-07-28, and by the handshake of those before it."""
_Answer = TypeVar("_Answer")
Talk = Callable[[Client], Awaitable[_Answer]]


def in_memory(home: Installation, talk: Talk[_Answer], mode: str = "auto") -> _Answer:
    """Talk with a server over an installation that is opened for a caller."""
    return _talk(lambda: Client(KbServer(lambda _: home).lowlevel, mode=mode), talk)


def over_http(address: str, key: str, talk: Talk[_Answer], mode: str = "auto") -> _Answer:
    """Talk with `kb serve`."""
    http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=60)
    return _talk(lambda: Client(streamable_http_client(f"{address}/mcp", http_client=http), mode=mode), talk)


def over_stdio(home: Home, talk: Talk[_Answer], key: str = "", mode: str = "auto") -> _Answer:
    """Talk with `kb mcp`, which Python runs with every warning an error."""
    environment = os.environ | as_environment(home.settings) | {"KB_KEY": key}
    command = StdioServerParameters(
        command=sys.executable, args=["-W", "error", "-m", "kb_pipeline", "mcp"], env=environment, cwd=Path.cwd()
    )
    return _talk(lambda: Client(stdio_client(command), mode=mode), talk)


def call(home: Installation, tool: str, **arguments: Any) -> CallToolResult:
    """Return what a tool of a server in memory answers."""
    return in_memory(home, lambda client: client.call_tool(tool, arguments))


def _talk(connect: Callable[[], Client], talk: Talk[_Answer]) -> _Answer:
    async def run() -> _Answer:
        async with connect() as client:
            return await talk(client)

    return anyio.run(run)
