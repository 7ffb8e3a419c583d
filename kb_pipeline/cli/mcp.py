"""`kb mcp`: the Model Context Protocol on standard input and output."""

from __future__ import annotations

from kb_pipeline.cli.session import session


def mcp() -> None:
    """Answer the host of an agent, which starts this command, by the Model Context Protocol."""
    from kb_pipeline.service.mcp.stdio import run

    run(session().settings, session().api_key)
