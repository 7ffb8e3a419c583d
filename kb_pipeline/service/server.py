"""Runs the application: one process or several, each with models and tables that stay open, until it is told to end."""

from __future__ import annotations

import logging
import os
import socket
import sys
import tempfile
from collections.abc import Sequence

import uvicorn
from fastapi import FastAPI

import kb_pipeline
from kb_pipeline.errors import Unhealthy
from kb_pipeline.log_lines import configure_logging
from kb_pipeline.service import request_log
from kb_pipeline.service.app import create_app
from kb_pipeline.service.metrics import MULTIPROCESS_FOLDER
from kb_pipeline.settings import Settings

_DRAIN_S = 30
"""How long requests and streams may go on after SIGTERM."""
_MAX_HEAD_BYTES = 1 << 16
"""Of a request's line and headers: httptools, uvicorn's other parser, keeps any number of them in memory."""
_MAX_MESSAGE_BYTES = 1 << 20
"""Of a WebSocket's message."""
_BACKLOG = 2048
"""Connections that wait to be taken: uvicorn's own default."""


def application() -> FastAPI:
    """Return the application over the home that the environment names: what each worker process runs."""
    home = kb_pipeline.open()
    configure_logging(home.settings.log_format, "uvicorn")
    if home.settings.log_format == "text":  # on a terminal only what went wrong; collectors are told every request
        logging.getLogger(request_log.__name__).setLevel(logging.WARNING)
    return create_app(home)


def run(settings: Settings, host: str, port: int, workers: int, trusted_proxies: Sequence[str] = ()) -> None:
    """Answer requests until Ctrl-C or SIGTERM; what runs is ended first.

    Args:
        settings: of the installation; worker processes read the same environment.
        host: the address to listen on.
        port: 0 for any that is free.
        workers: processes.
        trusted_proxies: addresses and networks whose `X-Forwarded-For` and `-Proto` are believed; else nobody's are.

    Raises:
        Unhealthy: the address cannot be listened on.
    """
    listening = _listen(host, port)
    config = uvicorn.Config(
        "kb_pipeline.service.server:application", factory=True, workers=workers, loop="uvloop", log_config=None,
        log_level="warning", timeout_graceful_shutdown=_DRAIN_S, server_header=False, access_log=False,
        proxy_headers=bool(trusted_proxies), forwarded_allow_ips=list(trusted_proxies), http="h11",
        h11_max_incomplete_event_size=_MAX_HEAD_BYTES, ws_max_size=_MAX_MESSAGE_BYTES,
    )  # fmt: skip
    address, bound = listening.getsockname()[:2]
    shown = f"[{address}]" if ":" in address else address
    sys.stderr.write(f"serving {settings.home} on http://{shown}:{bound}\n")
    if workers == 1:
        uvicorn.Server(config).run([listening])
        return
    from uvicorn.supervisors import Multiprocess

    with tempfile.TemporaryDirectory(prefix="kb-serve-") as folder:
        os.environ[MULTIPROCESS_FOLDER] = folder  # read by the workers when they start
        Multiprocess(config, [listening]).run()


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=_BACKLOG
        )
    except OSError as error:
        raise Unhealthy(
            f"{host} port {port} cannot be listened on ({error.strerror}); give others: --host, --port"
        ) from error
