"""LangChain's MCP adapters, on the MCP SDK of version 1: the tools as LangChain's own."""

import asyncio
import json
import os
from importlib.metadata import version
from typing import Any

from langchain_mcp_adapters.client import MultiServerMCPClient

connection = {
    "transport": "streamable_http",
    "url": f"{os.environ['ADDRESS']}/mcp",
    "headers": {"Authorization": f"Bearer {os.environ['KEY']}"},
}


async def talk() -> dict[str, Any]:
    tools = {each.name: each for each in await MultiServerMCPClient({"kb": connection}).get_tools()}

    async def call(name: str, **arguments: Any) -> Any:
        return await tools[name].ainvoke({"type": "tool_call", "id": "1", "name": name, "args": arguments})

    async def read(name: str, **arguments: Any) -> dict[str, Any]:
        message = await call(name, **arguments)
        assert message.status == "success", message.content
        found: dict[str, Any] = message.artifact["structured_content"]
        return found

    found = await read("search_kb", kb="acme.docs", query="where do apples keep for months", k=3)
    document = await read("read_document", kb="acme.docs", document=found["hits"][0]["document"])
    answer = await read("ask_kb", kb="acme.docs", question="Where do apples keep for months?")
    theirs = await call("search_kb", kb="globex.docs", query="apples")
    return {
        "sdk": version("mcp"),
        "client": version("langchain-mcp-adapters"),
        "tools": list(tools),
        "hits": found["hits"],
        "document": document["text"],
        "answer": answer,
        "refused": [theirs.status == "error", theirs.content[0]["text"]],
    }


print(json.dumps(asyncio.run(talk())))
