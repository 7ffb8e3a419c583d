"""A program `kb` for the shell scripts of tests, whose processes start warm: a page of commands takes seconds."""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingUnixStreamServer

from kb_pipeline_tests import warm

_PROGRAM = """#!{python} -IS
import json, os, socket, sys

if sys.argv[1:2] in (["serve"], ["up"], ["mcp"]):  # runs on until it gets a signal, which it must get itself
    os.execv({python!r}, [{python!r}, "-m", "kb_pipeline", *sys.argv[1:]])
asked = {{"arguments": sys.argv[1:], "environment": dict(os.environ), "folder": os.getcwd(), "given": sys.stdin.read()}}
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    server.sendall(json.dumps(asked).encode())
    server.shutdown(socket.SHUT_WR)
    done = json.loads(server.makefile().read())
sys.stdout.write(done["out"])
sys.stderr.write(done["err"])
sys.exit(done["status"])
"""


class _Handler(StreamRequestHandler):
    """Runs one command to its end."""

    def handle(self) -> None:
        asked = json.loads(self.rfile.read())
        with tempfile.NamedTemporaryFile("w", prefix="kb-test-") as given:
            given.write(asked["given"])
            given.flush()
            done = warm.run(
                "kb_pipeline", asked["arguments"], asked["environment"], Path(asked["folder"]), Path(given.name)
            )
        told = {"status": done.returncode, "out": done.stdout, "err": done.stderr}
        self.wfile.write(json.dumps(told).encode())


@contextmanager
def warm_kb() -> Iterator[Path]:
    """Yield a folder for the PATH with `kb` in it."""
    with tempfile.TemporaryDirectory(prefix="kb-test-") as folder:
        program, address = Path(folder) / "kb", f"{folder}/socket"
        program.write_text(_PROGRAM.format(python=sys.executable, address=address))
        program.chmod(0o755)
        with ThreadingUnixStreamServer(address, _Handler) as server:
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            try:
                yield Path(folder)
            finally:
                server.shutdown()
