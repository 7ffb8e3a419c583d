"""A KB that is published already, for tests to begin with: a first build takes ten seconds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kb_pipeline_tests.databases import copy_home, drop_databases, home_environment
from kb_pipeline_tests.kb import Kb
from kb_pipeline_tests.site import Site, plant_orchard, serve_site


@dataclass(frozen=True)
class Published:
    """The first version of `acme/docs`, made by `kb apply` and `kb build`, and the site that it is of."""

    kb: Kb
    site: Site


@pytest.fixture(scope="session")
def first_build(tmp_path_factory: pytest.TempPathFactory, models_dir: Path, empty_home: Path) -> Iterator[Published]:
    """To be copied."""
    folder = tmp_path_factory.mktemp("published")
    shutil.copytree(empty_home, folder / "home")
    (folder / "home/models").symlink_to(models_dir)
    with pytest.MonkeyPatch.context() as environment, serve_site() as site:
        for name in ("KB_DATABASE_URL", "KB_STORAGE_URI", "KB_KEY", "KB_SECRET_KEYS"):
            environment.delenv(name, raising=False)
        for name, value in home_environment(folder / "home").items():
            environment.setenv(name, value)
        plant_orchard(site)
        kb = Kb(folder)
        assert kb.apply(site).status == 0
        built = kb.build()
        assert (built.status, built.json["version"]) == (0, 1), built.err
        environment.undo()
        yield Published(kb, site)


@pytest.fixture
def published(first_build: Published, home: Path, tmp_path: Path) -> Published:
    """Return a copy of the home after that build, with the site as it was then."""
    drop_databases(home)
    shutil.rmtree(home)
    copy_home(first_build.kb.folder / "home", home)
    shutil.copy(first_build.kb.folder / "docs.yaml", tmp_path)
    first_build.site.reset()
    plant_orchard(first_build.site)
    return Published(Kb(tmp_path), first_build.site)
