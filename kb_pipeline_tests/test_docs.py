"""The pages of docs/ tell the truth: their commands run, their links lead to files, tables are what the code has."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel
from typer.main import get_command

from kb_pipeline.access_settings import ACCESS_VARIABLES
from kb_pipeline.cli.app import app
from kb_pipeline.definitions import defs
from kb_pipeline.defs.launch_settings import LAUNCH_VARIABLES
from kb_pipeline.publish.integrity_gates import GATES
from kb_pipeline.service_settings import SERVICE_VARIABLES
from kb_pipeline.settings import COMMAND_VARIABLES, VARIABLES
from kb_pipeline.spec.kb_file import GoldenQuery, KbSpec, parse_spec
from kb_pipeline.spec.roles_file import RolesSpec
from kb_pipeline.spec.sources import CrawlLimits, FilesSource, WebSource
from kb_pipeline_tests.databases import ON_POSTGRES
from kb_pipeline_tests.docs_home import ROOT, DocsHome, blocks, make_docs_home, run_script
from kb_pipeline_tests.site import serve_site
from kb_pipeline_tests.warm_kb import warm_kb

DOCS = ROOT / "docs"
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text("utf-8") for path in sorted(DOCS.rglob("*.md"))}
WITH_COMMANDS = [name for name, text in PAGES.items() if blocks(text, "bash")]
NOT_HERE = {
    "docker",
    "kubectl",
    "pip",
    "apt",
    "cp",
    "install",
    "openssl",
    "echo",
    "chmod",
    "password=$(openssl",
    ".venv/bin/pip",
}
"""Programs that change the machine, or are not on it: their blocks are marked `console`, and are not run."""

pytestmark = pytest.mark.xdist_group("docs")  # one worker builds what the pages share


@pytest.fixture(scope="module")
def docs_home(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[DocsHome]:
    """To be copied."""
    with serve_site() as site:
        yield make_docs_home(tmp_path_factory.mktemp("docs"), models_dir, site)


@pytest.fixture(scope="module")
def programs() -> Iterator[Path]:
    with warm_kb() as folder:
        yield folder


@pytest.mark.slow
@pytest.mark.skipif(ON_POSTGRES, reason="the pages are about a home without settings")
@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_the_commands_of_a_page_run_in_order(page: str, docs_home: DocsHome, programs: Path, tmp_path: Path) -> None:
    here = docs_home.copied(tmp_path)
    done = run_script("\n".join(blocks(PAGES[page], "bash")), here.site, here.folder, programs)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    assert "Traceback" not in done.stderr


def test_blocks_that_are_not_run_are_few_and_of_programs_that_are_not_here() -> None:
    skipped = [block for text in PAGES.values() for block in blocks(text, "console")]
    assert len(skipped) < 8
    lines = [line for block in skipped for line in re.sub(r"\\\n", "", block).splitlines()]
    assert {line.split()[0] for line in lines} <= NOT_HERE


@pytest.mark.parametrize("page", PAGES)
def test_the_links_of_a_page_lead_to_files(page: str) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", PAGES[page]):
        assert ((DOCS / page).parent / link).exists(), link


def test_the_readme_lists_every_page() -> None:
    listed = set(re.findall(r"\]\(docs/([^)#]+\.md)\)", (ROOT / "README.md").read_text("utf-8")))
    assert listed == set(PAGES)


def test_the_kb_files_on_the_pages_are_valid() -> None:
    for name, text in PAGES.items():
        for block in blocks(text, "yaml"):
            body = yaml.safe_load(block)
            if isinstance(body, list):
                assert [GoldenQuery.model_validate(query) for query in body]
            elif "roles" in body:
                assert RolesSpec.model_validate(body)
            else:
                parse_spec(block, name, {})


def test_the_map_of_the_rooms_is_what_their_docstrings_say() -> None:
    rooms = dict(re.findall(r"^\| `kb_pipeline/(\w+)` \| (.+) \|$", PAGES["architecture.md"], re.MULTILINE))
    packages = {path.parent.name for path in (ROOT / "kb_pipeline").glob("*/__init__.py")}
    assert set(rooms) == packages - {"demo_site"}
    for room, sentence in rooms.items():
        assert (importlib.import_module(f"kb_pipeline.{room}").__doc__ or "").strip() == sentence


def test_every_setting_that_is_read_is_in_the_tables() -> None:
    told = re.findall(r"^\| `(KB_[A-Z0-9_]+)` \|", PAGES["settings.md"] + PAGES["deployment.md"], re.MULTILINE)
    assert sorted(told) == sorted(
        [*VARIABLES, *COMMAND_VARIABLES, *LAUNCH_VARIABLES, *ACCESS_VARIABLES, *SERVICE_VARIABLES]
    )


def commands(command: Any, path: str = "kb") -> Iterator[tuple[str, set[str]]]:
    """Yield every command with its long options; those that all have are left out."""
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from commands(inner, f"{path} {name}")
        return
    options = {max(each.opts, key=len) for each in command.params if each.opts[0].startswith("-")}
    yield path, options - {"--json", "--help"}


def test_every_command_and_option_is_in_the_tables_and_exists() -> None:
    rows = re.findall(r"^\| `(kb(?: [a-z]+(?:-[a-z]+)*)*)\b[^`|]*` \|(.*)\|$", PAGES["commands.md"], re.MULTILINE)
    told = {command.strip(): set(re.findall(r"`(--[\w-]+|-k)", text)) for command, text in rows}
    assert len(rows) == len(told)
    assert told == dict(commands(get_command(app)))


def test_sensors_and_schedules_are_those_of_the_code() -> None:
    repository = defs.get_repository_def()
    names = {sensor.name for sensor in repository.sensor_defs} | {s.name for s in repository.schedule_defs}
    assert set(re.findall(r"^\| (?:sensor|schedule) `(\w+)` \|", PAGES["dagster.md"], re.MULTILINE)) == names


def test_the_checks_are_those_of_the_code() -> None:
    assert re.findall(r"^\| `(\w+_\w+)` \| (?!a |the )", PAGES["versions.md"], re.MULTILINE)
    told = set(re.findall(r"^\| `(\w+)` \|", PAGES["versions.md"].split("## The twelve checks")[1], re.MULTILINE))
    assert told == set(GATES)
    assert len(GATES) == 12


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the fields of a section of the KB file, and of the sections in it, as in `publish.max_drop`."""
    for name, field in model.model_fields.items():
        inner = [each for each in (field.annotation, *get_args(field.annotation)) if isinstance(each, type)]
        sections = [each for each in inner if issubclass(each, BaseModel)]
        if sections and name != "queries":
            yield from fields(sections[0], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


@pytest.mark.parametrize(
    ("heading", "named"),
    [
        ("The KB", {name for name in fields(KbSpec) if "." not in name}),
        ("Sources of type `web`", {"limits", *fields(WebSource)}),
        ("Sources of type `files`", set(fields(FilesSource))),
        ("Rules", {name for name in fields(KbSpec) if "." in name}),
        ("Golden queries", set(fields(GoldenQuery))),
    ],
)
def test_the_page_of_the_kb_file_has_every_field(heading: str, named: set[str]) -> None:
    section = PAGES["kb-file.md"].split(f"## {heading}\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `([\w.]+)` \|", section, re.MULTILINE)) == named
    assert CrawlLimits.model_fields
