"""Makes the environments of the clients: `python -m kb_pipeline_tests.service.clients.environments`, as `make clients`.

Two major lines live side by side: version 3 of OpenAI's client and 2 of the MCP SDK, and those before them, which
LangChain, LlamaIndex and Haystack take too. Each is installed from a list of all packages, so nothing is resolved.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
import venv
from pathlib import Path

FOLDER = Path(__file__).parents[3] / ".venv-clients"
NAMES = ("current", "earlier")


class Missing(Exception):
    """An environment has not been made, or of another list."""


def python_of(name: str) -> Path:
    """Return the interpreter of an environment; raise Missing."""
    if not _marker(name).exists():
        raise Missing(f"the clients' environment {name!r} is not there in {FOLDER}; make it with: make clients")
    return FOLDER / name / "bin" / "python"


def make(name: str) -> None:
    """Make an environment, unless it is there of the same list."""
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _marker(name).exists():
            return
        venv.create(FOLDER / name, clear=True, with_pip=True)
        subprocess.run(
            [
                FOLDER / name / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                "--no-compile", "--no-deps", "-r", str(_packages(name)),
            ],
            check=True,
        )  # fmt: skip
        _marker(name).touch()


def _packages(name: str) -> Path:
    return Path(__file__).with_name(f"{name}.txt")


def _marker(name: str) -> Path:
    made_of = f"{sys.version}\n{_packages(name).read_text()}"
    return FOLDER / name / f".made-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}"


if __name__ == "__main__":
    for each in NAMES:
        make(each)
