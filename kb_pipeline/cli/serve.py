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
    proxy_headers: Annotated[
        bool, typer.Option("--proxy-headers", help="Believe a proxy's X-Forwarded-For and -Proto; see the next one.")
    ] = False,
    forwarded_allow_ips: Annotated[
        str,
        typer.Option("--forwarded-allow-ips", metavar="A,B", help="Addresses and networks of proxies to be believed."),
    ] = "127.0.0.1",
) -> None:
    """Answer HTTP requests of whoever shows an API key, until Ctrl-C."""
    session().require_operator("serve")
    from kb_pipeline.service.server import run

    run(session().settings, host, port, workers, _networks(forwarded_allow_ips) if proxy_headers else ())


def _networks(given: str) -> tuple[str, ...]:
    """Return the addresses and networks of a list; raise UsageError for others, also for all the world."""
    import ipaddress

    from kb_pipeline.errors import UsageError

    networks = tuple(part.strip() for part in given.split(",") if part.strip())
    try:
        if networks and all(ipaddress.ip_network(each).prefixlen for each in networks):
            return networks
    except ValueError:
        pass
    allowed = "addresses and networks of proxies, as in 10.0.0.5,10.1.0.0/16"
    raise UsageError(f"--forwarded-allow-ips: allowed are {allowed}; got {given!r}")
