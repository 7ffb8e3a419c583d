"""The shape of the code: who may import whom, and what stays unloaded."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import kb_pipeline

ROOT = Path(kb_pipeline.__file__).parent
WORDS = {"", "cron", "errors", "failpoints", "host_scheduler", "model", "processes", "settings", "urls"}
"""The shared words: every room may import them."""
ALLOWED: dict[str, set[str]] = {
    **dict.fromkeys(WORDS, WORDS),
    "spec": WORDS,
    "store": WORDS,
    "fetch": WORDS | {"spec", "store"},
    "clean": WORDS | {"store"},
    "chunk": WORDS | {"store"},
    "embed": WORDS | {"store"},
    "index": WORDS | {"store"},
    "publish": WORDS | {"store", "spec", "index"},
    "maintenance": WORDS | {"store", "index", "publish"},
    "control": WORDS | {"spec", "store", "embed", "fetch"},
    "defs": WORDS | {"control", "operations", "publish", "chunk", "clean", "definitions"},
    "definitions": {"defs"},
    "demo_site": WORDS,
    "__main__": {"cli"},
}
ALLOWED["operations"] = set().union(*(ALLOWED[room] for room in ("fetch", "publish", "maintenance", "control"))) | {
    "fetch", "clean", "chunk", "embed", "index", "publish", "maintenance", "control",
}  # fmt: skip
ALLOWED["cli"] = ALLOWED["operations"] | {"operations", "defs", "demo_site"}
OWNERS = {
    "dagster": {"defs", "definitions"},
    "scrapy": {"fetch/web/http/scrapy_transport"},
    "twisted": {"fetch/web"},
    "aiohttp": {"fetch/web/http/aiohttp_transport"},
    "playwright": {"fetch/web/crawl/browser"},
    "selectolax": {"fetch/web/parse/html_links"},
    "trafilatura": {"clean/html/document"},
    "lancedb": {"store/lance_table"},
    "lance": {"store/lance_table"},
    "openvino": {"embed/openvino"},
    "sentence_transformers": {"embed/local_models"},
    "sqlalchemy": {"control", "operations"},
    "alembic": {"control/db"},
    "openfeature": {"control/flags/provider"},
    "argon2": {"control/tenancy/api_keys"},
    "cryptography": {"control/tenancy/secrets"},
    "typer": {"cli"},
}

LOOK_ACROSS = {
    "control/tenancy/audit",  # verifies every chain
    "control/kbs/catalog",  # lists the KBs of all for the sensors
    "control/flags/overrides",  # what is set for everybody, and the count of changes
    "control/runs/heartbeats",  # whose worker is alive
    "control/coordination/host_limits",  # one host is asked by many
    "operations/delete",  # a tenant that goes, table by table
    "control/tenancy/plans",  # what every tenant's plan says
    "control/runs/requests",  # whose requests wait, for the sensor
    "control/metering/report",  # what all have used, for the operator
    "control/tenancy/tenants",  # lists tenants; keys of deleted ones
}
"""What leaves the tenant's own unit of work, and why."""


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of ours, parsed once."""
    files = {path.relative_to(ROOT).with_suffix("").as_posix(): path for path in sorted(ROOT.rglob("*.py"))}
    return {
        name.removesuffix("/__init__").removesuffix("__init__"): ast.parse(path.read_text())
        for name, path in files.items()
    }


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_imports_point_one_way() -> None:
    rooms = {path.stem if path.suffix else path.name for path in ROOT.iterdir()}
    wrong = []
    for name, tree in modules().items():
        room = name.split("/")[0]
        for target in imported(tree):
            parts = target.split(".")
            if (
                parts[0] == "kb_pipeline"
                and len(parts) > 1
                and parts[1] in rooms - {room}
                and parts[1] not in ALLOWED[room]
            ):
                wrong.append(f"{name} -> {target}")
    assert not wrong


@pytest.mark.parametrize("library", OWNERS)
def test_a_heavy_library_has_one_owner(library: str) -> None:
    importers = {
        name for name, tree in modules().items() for target in imported(tree) if target.split(".")[0] == library
    }
    assert importers
    assert all(any(name == owner or name.startswith(f"{owner}/") for owner in OWNERS[library]) for name in importers)


def test_only_the_operators_programs_look_across_tenants() -> None:
    across = {"read_all", "write_all"}
    callers = {
        name
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and (node.attr in across or node.attr == "connection")
    }
    assert callers - {"control/db/engine"} == LOOK_ACROSS
    sessions = {
        name
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("Session")
    }
    assert {name for name in sessions if name.startswith("control")} == {"control/db/engine"}


def test_definitions_load_none_of_the_heavy_libraries() -> None:
    heavy = ["torch", "openvino", "scrapy", "lancedb", "trafilatura", "transformers", "sentence_transformers"]
    code = f"import sys, kb_pipeline.definitions; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_loads_little() -> None:
    code = (
        "import sys\nsys.argv = ['kb', '--help']\nfrom kb_pipeline.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('dagster', 'sqlalchemy', 'pyarrow', 'polars', 'numpy', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
