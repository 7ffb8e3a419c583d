"""The shape of the code: who may import whom, and what stays unloaded."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import kb_pipeline
from kb_pipeline.control.db.engine import Database
from kb_pipeline.model import KbKey
from kb_pipeline_tests.control.planes import apply

ROOT = Path(kb_pipeline.__file__).parent
WORDS = {
    "",
    "access_settings",
    "account",
    "allowance",
    "charset",
    "cron",
    "declared_charset",
    "errors",
    "failpoints",
    "host_scheduler",
    "interrupts",
    "json_fields",
    "link_text",
    "log_lines",
    "media_types",
    "model",
    "page_kind",
    "page_redirects",
    "processes",
    "request_context",
    "script_shell",
    "service_settings",
    "settings",
    "units",
    "urls",
    "version",
    "word_count",
    "xhtml",
}
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
    "answers": WORDS | {"store", "index"},
    "publish": WORDS | {"store", "spec", "index", "answers"},
    "maintenance": WORDS | {"store", "index"},
    "control": WORDS | {"spec"},
    "defs": WORDS | {"control", "operations", "publish", "chunk", "clean", "embed", "definitions"},
    "definitions": {"defs"},
    "demo_site": WORDS,
    "__main__": {"cli"},
}
ALLOWED["operations"] = set().union(*(ALLOWED[room] for room in ("fetch", "publish", "maintenance", "control"))) | {
    "fetch", "clean", "chunk", "embed", "index", "answers", "publish", "maintenance", "control",
}  # fmt: skip
ALLOWED[""] = {"installation", "settings", "version"}
ALLOWED["administration"] = WORDS | {"control", "operations", "spec"}
ALLOWED["installation"] = WORDS | {"administration", "control", "operations", "index", "answers", "defs"}
ALLOWED["cli"] = ALLOWED["installation"] | {"installation", "service", "spec", "demo_site", "clean"}
ALLOWED["service"] = WORDS | {"installation", "index", "answers", "operations"}
EXCEPTIONS = {
    ("control", "store/manifest"),  # a version's manifest, as it lies beside the data, is a column of its row
    ("control", "store/durable_files"),  # a key file must survive a power cut
}
"""Modules of a room that is closed to another one, which may import them all the same."""
CONTROL: dict[str, set[str]] = {
    "db": set(),
    "tenancy": {"db"},
    "coordination": {"db"},
    "flags": {"db", "tenancy"},
    "metering": {"db", "tenancy", "coordination"},
    "kbs": {"db", "tenancy", "coordination", "metering"},
    "runs": {"db", "tenancy", "coordination", "flags", "metering", "kbs"},
}
"""The rooms of the control plane, each with those that it may import."""
OWNERS = {
    "dagster": {"defs", "definitions"},
    "scrapy": {"fetch/web/http/scrapy_transport"},
    "twisted": {"fetch/web"},
    "aiohttp": {"fetch/web/http/aiohttp_transport"},
    "playwright": {"fetch/web/crawl/browser"},
    "selectolax": {"fetch/web/parse"},
    "trafilatura": {"clean/html/article"},
    "sentencex": {"answers/sentences"},
    "httpx2": {"answers/model_client"},
    "lance": {
        "store/lance_database",
        "store/table",
        "store/table_handle",
        "store/table_indexes",
        "store/table_maintenance",
    },
    "openvino": {"embed/openvino"},
    "sentence_transformers": {"embed/local_models"},
    "torch": {"embed/local_models"},
    "sqlalchemy": {"control", "operations"},
    "alembic": {"control/db"},
    "openfeature": {"control/flags/provider"},
    "argon2": {"control/tenancy/key_secrets"},
    "cryptography": {"control/tenancy/secrets"},
    "jwt": {"operations/json_web_tokens", "operations/key_sets"},
    "typer": {"cli"},
    "fastapi": {"service"},
    "uvicorn": {"service"},
    "tiktoken": {"service/cl100k"},
    "prometheus_client": {"service/metrics"},
    "opentelemetry": {"service/request_log"},
}

LOOK_ACROSS = {
    "control/tenancy/audit",  # verifies every chain
    "control/kbs/catalog",  # lists the KBs of all for the sensors
    "control/flags/overrides",  # what is set for everybody, and the count of changes
    "control/runs/heartbeats",  # whose worker is alive
    "control/coordination/host_limits",  # one host is asked by many
    "operations/delete",  # a tenant that goes, table by table
    "control/tenancy/operator_keys",  # no tenant's
    "control/tenancy/plans",  # what every tenant's plan says
    "control/runs/requests",  # whose requests wait, for the sensor
    "control/runs/figures",  # what monitoring asks, for the operator
    "control/coordination/idempotency",  # forgets requests that are old
    "control/kbs/drafts",  # deletes those that have expired
    "control/runs/jobs",  # whose runs were lost, for the sensor; all jobs, for the operator
    "control/runs/overview",  # how the KBs of all stand, for the operator
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


def imported_modules(tree: ast.Module) -> set[str]:
    """Modules of ours that are imported anywhere in a module, also within functions and for types only."""
    found = set()
    for target in imported(tree):
        package, _, rest = target.partition(".")
        path = rest.replace(".", "/")
        if package == "kb_pipeline" and path in modules():
            found.add(path)
    return found


def test_imports_point_one_way() -> None:
    wrong = [
        f"{name} -> {target}"
        for name, tree in modules().items()
        for target in imported_modules(tree)
        if (room := name.split("/")[0]) != (other := target.split("/")[0])
        and other not in ALLOWED[room]
        and (room, target) not in EXCEPTIONS
    ]
    assert not wrong


def test_the_rooms_of_the_control_plane_import_one_another_in_one_direction() -> None:
    assert set(CONTROL) == {name.split("/")[1] for name in modules() if name.startswith("control/")}
    wrong = [
        f"{name} -> {target}"
        for name, tree in modules().items()
        if name.startswith("control/")
        for target in imported_modules(tree)
        if target.startswith("control/")
        and (room := name.split("/")[1]) != (other := target.split("/")[1])
        and other not in CONTROL[room]
    ]
    assert not wrong
    assert all(CONTROL[other] < CONTROL[room] for room in CONTROL for other in CONTROL[room]), "no way leads back"


def test_no_imports_go_in_a_circle() -> None:
    left = {name: imported_modules(tree) - {name} for name, tree in modules().items()}
    while free := {name for name, targets in left.items() if not targets & left.keys()}:
        left = {name: targets for name, targets in left.items() if name not in free}
    assert not left, "these import one another, or what does"


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
    heavy = ["torch", "openvino", "scrapy", "lance", "trafilatura", "transformers", "sentence_transformers"]
    code = f"import sys, kb_pipeline.definitions; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_reading_a_status_loads_none_of_the_heavy_libraries(tmp_path: Path) -> None:
    heavy = ["pyarrow", "polars", "numpy", "lance", "dagster", "scrapy", "twisted", "openvino", "trafilatura"]
    code = (
        "import sys\nfrom kb_pipeline.cli.app import app\n"
        "try:\n    app(['status', 'acme/docs', '--json'])\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    db = Database(f"sqlite:///{tmp_path / 'control.db'}")
    apply(db, KbKey("acme", "docs"))
    db.dispose()
    environment = {**os.environ, "KB_HOME": str(tmp_path), "KB_DATABASE_URL": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    status, loaded = done.stdout.splitlines()
    assert json.loads(status)["status"] == "new"
    assert loaded == "[]"


def test_help_loads_little() -> None:
    code = (
        "import sys\nsys.argv = ['kb', '--help']\nfrom kb_pipeline.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('dagster', 'sqlalchemy', 'pyarrow', 'polars', 'numpy', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_tests_mirror_the_tree() -> None:
    """A test lies where what it tests lies; of whole homes and deployments, in `crash` and `deploy`."""
    tests = Path(__file__).parent
    pages = {"architecture", "contributing", "docs", "examples", "newcomer", "readme"}
    misplaced = []
    for path in tests.rglob("test_*.py"):
        folder, subject = path.parent.relative_to(tests), path.stem.removeprefix("test_")
        if not folder.parts:
            page = ROOT.parent / "docs" / subject.removeprefix("docs_")
            is_page = subject in pages or page.is_dir() or page.with_suffix(".md").is_file()
            is_placed = is_page or (ROOT / f"{subject}.py").is_file()
        else:
            is_placed = (
                folder.parts[0] in {"crash", "deploy", "page_cases"} or (ROOT / folder / "__init__.py").is_file()
            )
        if not is_placed:
            misplaced.append(path.relative_to(tests).as_posix())
    assert not misplaced
