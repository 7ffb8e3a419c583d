"""A newcomer with a fresh clone does only what the README says, in order, and reaches hits in a site of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from kb_pipeline_tests.databases import ON_POSTGRES
from kb_pipeline_tests.docs_home import OURS, ROOT, blocks, plant_handbook
from kb_pipeline_tests.light import LightInstallation
from kb_pipeline_tests.site import serve_site

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(ON_POSTGRES, reason="a newcomer has no settings"),
    pytest.mark.skipif(not (ROOT / ".git").exists() or not shutil.which("git"), reason="there is nothing to clone"),
    pytest.mark.skipif(not shutil.which("make"), reason="make is not installed"),
]


def clone(folder: Path) -> Path:
    """Clone what is committed, with an installation in place of the one that make would download."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    LightInstallation(folder / ".venv", folder)
    (folder / ".venv/.light").touch()  # so make finds it done
    return folder


def test_whoever_does_what_the_readme_says_finds_something_in_a_site_of_their_own(tmp_path: Path) -> None:
    here = clone(tmp_path / "kb_pipeline")
    readme = (here / "README.md").read_text("utf-8")
    commands = [line for block in blocks(readme, "bash") for line in block.splitlines()]
    assert sum(line.startswith("make test") for line in commands) == 1
    script = "\n".join(line for line in commands if not line.startswith("make test"))  # which would run this one
    with serve_site() as site:
        plant_handbook(site)
        environment = {
            "HOME": str(tmp_path),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": os.environ.get("LANG", "C.UTF-8"),
            "KB_ALLOW_PRIVATE_NETWORKS": "127.0.0.0/8",  # their site is on the Internet, this one is not
        }
        done = subprocess.run(
            ["bash", "-c", f"set -euo pipefail\n{script.replace(OURS, site.url)}"],
            cwd=here, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
    told = f"{done.stdout}\n{done.stderr[-3000:]}"
    assert done.returncode == 0, told
    assert "18 months" in done.stdout or "Warranty" in done.stdout, told  # the demo's
    assert f"{site.url}/guide/tokens" in done.stdout, told
    assert "Rotate a token in the settings of your account" in done.stdout, told
    shown, written = blocks(readme, "yaml")[0].replace(OURS, site.url), (here / "my-kb.yaml").read_text("utf-8")
    assert yaml.safe_load(written) == yaml.safe_load(shown)
    assert "Traceback" not in done.stderr
