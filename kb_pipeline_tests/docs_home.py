"""A KB as the pages of docs/ have it, `acme/handbook` of docs.example.com, on a small site of a test's own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from kb_pipeline.defs.instance import open_instance
from kb_pipeline.defs.partitions import add_partition
from kb_pipeline.model import KbKey
from kb_pipeline.settings import load_settings
from kb_pipeline_tests.operations.home import MODEL, Home, quick_refreshes, web_source
from kb_pipeline_tests.site import Site

ROOT = Path(__file__).parent.parent
HANDBOOK = KbKey("acme", "handbook")
OURS = "https://docs.example.com"
"""The site of every example."""


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a page that are of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def plant_handbook(site: Site) -> None:
    """Five pages of a handbook, about tokens among other things."""
    topics = {
        "/guide/tokens": (
            "Tokens",
            "Rotate a token in the settings of your account; the old one works for ninety days.",
        ),
        "/guide/users": ("Users", "Invite users by their address; each one gets a mail with a link to begin."),
        "/guide/install": ("Installing", "Install the program with your package manager and start the service."),
        "/api/errors": ("Errors", "Every answer of the interface carries a status and a message for people."),
    }
    site.put("/", "Handbook", "The handbook of our program: how to install and use it.", tuple(topics))
    for path, (title, text) in topics.items():
        site.put(path, title, text)


def run_script(commands: str, site: Site, folder: Path, *programs: Path) -> subprocess.CompletedProcess[str]:
    """Run commands of a page as a reader would, in one shell that stops at the first that fails, on the local site.

    Args:
        commands: of the page.
        site: instead of docs.example.com.
        folder: where to run them.
        programs: folders that come first on the PATH.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KB_", "DAGSTER_"))}
    environment |= {
        "PATH": ":".join(map(str, (*programs, Path(sys.executable).parent, os.environ["PATH"]))),
        "KB_ALLOW_PRIVATE_NETWORKS": "127.0.0.0/8",
    }
    script = "set -euo pipefail\n" + commands.replace(OURS, site.url)
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


@dataclass(frozen=True)
class DocsHome:
    """A folder with a home in it, as somebody has who has used `kb` for a while."""

    folder: Path
    site: Site

    def copied(self, folder: Path) -> DocsHome:
        """Return a copy, for one page."""
        shutil.copytree(self.folder, folder, symlinks=True, dirs_exist_ok=True)
        return DocsHome(folder, self.site)


def make_docs_home(folder: Path, models_dir: Path, site: Site) -> DocsHome:
    """Build two versions of the handbook, and a third that is held; the site is then again what version 2 is of."""
    plant_handbook(site)
    with quick_refreshes():
        home = Home(folder / ".kb", models_dir)
        home.apply(site, HANDBOOK)
        assert home.refresh(HANDBOOK).status == "ready"
        site.put("/guide/tokens", "Tokens", "Rotate a token with the command rotate; the old one ends at once.")
        assert home.refresh(HANDBOOK).status == "ready"
        pages = dict(site.pages)
        site.put("/", "Handbook", "The handbook of our program: how to install and use it.")
        for path in ("/guide/users", "/guide/install", "/api/errors"):
            del site.pages[path]
        assert home.refresh(HANDBOOK).status == "held"
        site.pages = pages
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KB_HOME", str(home.settings.home))
        with open_instance(load_settings()) as instance:
            add_partition(instance, HANDBOOK)
    (folder / "handbook.yaml").write_text(
        f"tenant: acme\nkb: handbook\nsources: [{web_source(site)}]\nembedding: {{model: {MODEL}}}\n"
    )
    return DocsHome(folder, site)
