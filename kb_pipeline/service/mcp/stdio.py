"""`kb mcp`: the protocol on standard input and output, a JSON message a line; everything else goes to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import cast

import anyio
from anyio.lowlevel import checkpoint
from mcp.server.stdio import stdio_server

import kb_pipeline
from kb_pipeline.installation import Installation
from kb_pipeline.service.mcp.server import KbServer
from kb_pipeline.settings import Settings

_STDIN = 0
_BLOCK = 1 << 16
_MAX_LINE = 4 << 20
"""Bytes of a message; of a longer one the beginning is handed on, which is no JSON and so is refused."""
_PAUSE_S = 0.05
_DRAIN_S = 30
"""How long requests that run may go on after the input has ended."""


def run(settings: Settings, api_key: str | None) -> None:
    """Answer a host until it closes the input, or Ctrl-C.

    Args:
        settings: of the installation.
        api_key: acts for its holder, and is checked at every request; None for the operator.

    Raises:
        KeyRefused, TenantInactive: nobody may act with the key.
    """
    with kb_pipeline.open(settings=settings) as home:
        if api_key is not None:
            home.acting_as(api_key)
        if os.isatty(_STDIN):
            sys.stderr.write("kb mcp speaks the Model Context Protocol with a host that starts it; Ctrl-C ends it\n")
        try:
            anyio.run(_serve, home, api_key)
        except* BrokenPipeError:
            pass  # the host has gone: there is nobody to answer


async def _serve(home: Installation, api_key: str | None) -> None:
    server = KbServer(lambda _: home if api_key is None else home.acting_as(api_key))
    options = server.lowlevel.create_initialization_options()
    with _taken_input() as descriptor:
        # Its own reader waits in a thread that nothing but a line can end, so that Ctrl-C would be of no effect.
        lines = cast("anyio.AsyncFile[str]", _lines(descriptor, server))
        async with stdio_server(stdin=lines) as (messages, answers):
            await server.lowlevel.run(messages, answers, options)


@contextmanager
def _taken_input() -> Iterator[int]:
    """Yield a descriptor of the input that is ours alone: nothing else that reads takes a message away."""
    taken, nothing = os.dup(_STDIN), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, _STDIN)
    os.close(nothing)
    try:
        yield taken
    finally:
        os.dup2(taken, _STDIN)
        os.close(taken)


async def _lines(descriptor: int, server: KbServer) -> AsyncIterator[str]:
    """Yield the messages; at the end of the input, end when what was asked has been answered."""
    pending, is_too_long = b"", False
    while block := await _read(descriptor):
        *whole, pending = (pending + block).split(b"\n")
        for line in whole:
            if line.strip() and not is_too_long:
                yield line.decode(errors="replace")
            is_too_long = False
        if len(pending) > _MAX_LINE:
            if not is_too_long:
                yield pending[:_BLOCK].decode(errors="replace")
            pending, is_too_long = b"", True
    if pending.strip() and not is_too_long:
        yield pending.decode(errors="replace")
    with anyio.move_on_after(_DRAIN_S):
        await anyio.wait_all_tasks_blocked()  # what was read is being answered
        while server.is_busy:
            await anyio.sleep(_PAUSE_S)
        await anyio.wait_all_tasks_blocked()  # and its answer has been written


async def _read(descriptor: int) -> bytes:
    try:
        await anyio.wait_readable(descriptor)
    except PermissionError:  # epoll knows no regular files: they never keep a reader waiting
        await checkpoint()
    return os.read(descriptor, _BLOCK)
