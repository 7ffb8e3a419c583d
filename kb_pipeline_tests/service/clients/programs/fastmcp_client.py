"""FastMCP's client: what tools return as objects of the types that their schemas tell."""

import asyncio
import json
import os
from importlib.metadata import version
from typing import Any

from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from fastmcp.exceptions import ToolError


async def talk() -> dict[str, Any]:
    async with Client(StreamableHttpTransport(f"{os.environ['ADDRESS']}/mcp", auth=os.environ["KEY"])) as client:
        asked = {"kb": "acme.docs", "query": "where do apples keep for months", "k": 3}
        found = await client.call_tool("search_kb", asked)
        document = await client.call_tool("read_document", {"kb": "acme.docs", "document": found.data.hits[0].document})
        answer = await client.call_tool("ask_kb", {"kb": "acme.docs", "question": "Where do apples keep for months?"})
        refused = [False, ""]
        try:
            await client.call_tool("search_kb", {"kb": "globex.docs", "query": "apples"})
        except ToolError as error:
            refused = [True, str(error)]
        return {
            "sdk": version("mcp"),
            "client": version("fastmcp"),
            "tools": [each.name for each in await client.list_tools()],
            "hits": found.structured_content["hits"],
            "document": document.data.text,
            "answer": answer.structured_content,
            "refused": refused,
        }


print(json.dumps(asyncio.run(talk())))
