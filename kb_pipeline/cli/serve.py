"""`kb serve`: the HTTP service of this home."""

from __future__ import annotations

from typing import Annotated

import typer

from kb_pipeline.cli.session import session

HostOption = Annotated[str, typer.Option("--host", help="The address to listen on; by default only this machine's.")]
WorkersOption = Annotated[int, typer.Option("--workers", min=1, max=64, help="Processes, each with its models.")]


def serve(
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 for any that is free.")] = 8000,
    workers: WorkersOption = 1,
) -> None:
    """Answer HTTP requests of whoever shows an API key, until Ctrl-C."""
    session().require_operator("serve")
    from kb_pipeline.service.server import run

    run(session().settings, host, port, workers)
