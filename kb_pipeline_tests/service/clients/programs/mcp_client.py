"""The MCP SDK's own client, of version 2."""

import asyncio
import json
import os
from importlib.metadata import version
from typing import Any

import httpx2
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import TextContent


async def talk() -> dict[str, Any]:
    http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {os.environ['KEY']}"}, timeout=60)
    async with Client(streamable_http_client(f"{os.environ['ADDRESS']}/mcp", http_client=http)) as client:

        async def read(name: str, **arguments: Any) -> dict[str, Any]:
            result = await client.call_tool(name, arguments)
            assert not result.is_error, result.content
            found: dict[str, Any] = result.structured_content
            return found

        found = await read("search_kb", kb="acme.docs", query="where do apples keep for months", k=3)
        document = await read("read_document", kb="acme.docs", document=found["hits"][0]["document"])
        answer = await read("ask_kb", kb="acme.docs", question="Where do apples keep for months?")
        theirs = await client.call_tool("search_kb", {"kb": "globex.docs", "query": "apples"})
        (said,) = theirs.content
        assert isinstance(said, TextContent)
        return {
            "sdk": version("mcp"),
            "client": client.protocol_version,
            "tools": [each.name for each in (await client.list_tools()).tools],
            "hits": found["hits"],
            "document": document["text"],
            "answer": answer,
            "refused": [theirs.is_error, said.text],
        }


print(json.dumps(asyncio.run(talk())))
