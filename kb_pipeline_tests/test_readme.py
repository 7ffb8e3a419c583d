"""The README tells the truth: its commands run, its tables are what the code has."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kb_pipeline.definitions import defs
from kb_pipeline.defs.launch_settings import LAUNCH_VARIABLES
from kb_pipeline.settings import COMMAND_VARIABLES, VARIABLES
from kb_pipeline.spec.kb_file import load_spec, parse_spec
from kb_pipeline_tests.kb import Kb
from kb_pipeline_tests.published import Published
from kb_pipeline_tests.site import serve_site

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
DEPLOYMENT = (ROOT / "docs/deployment.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_it_is_short() -> None:
    assert len(README.splitlines()) < 200


def test_the_map_of_the_rooms_is_what_their_docstrings_say() -> None:
    rooms = dict(re.findall(r"^\| `kb_pipeline/(\w+)` \| (.+) \|$", README, re.MULTILINE))
    packages = {path.parent.name for path in (ROOT / "kb_pipeline").glob("*/__init__.py")}
    assert set(rooms) == packages - {"demo_site"}
    for room, sentence in rooms.items():
        assert (importlib.import_module(f"kb_pipeline.{room}").__doc__ or "").strip() == sentence


def test_every_setting_that_is_read_is_in_the_table() -> None:
    told = re.findall(r"^\| `(KB_[A-Z0-9_]+)` \|", README + DEPLOYMENT, re.MULTILINE)
    assert sorted(told) == sorted([*VARIABLES, *COMMAND_VARIABLES, *LAUNCH_VARIABLES])


def test_every_command_is_in_the_table_and_exists() -> None:
    told = set(re.findall(r"`kb (\w+)", README.split("| command |")[1].split("\n\n")[0]))
    done = subprocess.run([sys.executable, "-m", "kb_pipeline", "--help"], capture_output=True, text=True, check=True)
    assert told == set(re.findall(r"^  (\w+)  ", done.stdout.split("First day:")[1], re.MULTILINE))


def test_sensors_and_schedules_are_those_of_the_code() -> None:
    repository = defs.get_repository_def()
    names = {sensor.name for sensor in repository.sensor_defs} | {s.name for s in repository.schedule_defs}
    assert set(re.findall(r"^\| (?:sensor|schedule) `(\w+)` \|", README, re.MULTILINE)) == names


def test_the_kb_file_and_the_examples_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    parse_spec(blocks("yaml")[0], "README.md", {})
    for path in sorted((ROOT / "examples").glob("*.yaml")):
        if isinstance(yaml.safe_load(path.read_text()), dict):
            load_spec(path)


def test_the_python_lines_run_on_a_home(published: Published, capsys: pytest.CaptureFixture[str]) -> None:
    (lines,) = blocks("python")
    asked = lines.replace("acme/handbook", "acme/docs").replace("kb.refresh()", "status = kb.refresh().status")
    names: dict[str, object] = {}
    exec(asked, names)
    assert "Orchard" in capsys.readouterr().out
    assert names["status"] == "unchanged"


def test_make_has_every_target_that_is_named() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake (\w+)", README + (ROOT / "CONTRIBUTING.md").read_text()))
    assert named <= targets | {"sure"}, named - targets


def test_the_links_lead_to_files() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link
    for link in re.findall(r"\]\(([^)#:]+)\)", DEPLOYMENT):
        assert (ROOT / "docs" / link).exists(), link


def test_the_dagster_commands_run_on_a_home(kb: Kb) -> None:
    with serve_site() as site:
        site.put("/", "Orchard", "The handbook of our orchard: how fruit is picked and stored.")
        kb.apply(site, kb="handbook")
        commands = next(block for block in blocks("bash") if "dagster" in block)
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        (kb.folder / ".kb").symlink_to(kb.folder / "home")  # where KB_HOME lies by default
        script = "set -e\n" + commands
        done = subprocess.run(["bash", "-c", script], cwd=kb.folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert kb("status", "acme/handbook", "--json").json["live_version"] == 1
