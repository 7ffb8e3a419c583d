"""Random sites change, random files are edited: after each refresh the documents are what the semantics demand."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kb_pipeline_tests.fetch.model_home import ModelHome
from kb_pipeline_tests.fetch.site_history import History
from kb_pipeline_tests.fetch.site_model import Server, Site, Step, World, planted, steps


def first_problem(folder: Path, world: World, life: Sequence[Step]) -> tuple[int, str] | None:
    """Return the number of the first step after which something is wrong, and what; None if nothing ever is."""
    server = Server()

    def empty_home(name: str) -> ModelHome:
        shutil.rmtree(folder / name, ignore_errors=True)
        return ModelHome(folder / name, server)

    history = History(world, server, empty_home("home"), lambda: empty_home("fresh"))
    for number, step in enumerate(life):
        if problem := history.problem(step):
            return number, problem
    return None


def shrunk(folder: Path, world: World, life: Sequence[Step]) -> tuple[World, list[Step], str]:
    """Return the smallest case found that still goes wrong: steps, pages and links are left out one after the other."""
    found = first_problem(folder, world, life)
    assert found is not None
    steps_left, problem = list(life[: found[0] + 1]), found[1]
    size = len(steps_left)
    while size:
        for start in range(len(steps_left) - size, -1, -size):
            fewer = steps_left[:start] + steps_left[start + size :]
            if again := first_problem(folder, world, fewer):
                steps_left, problem = fewer[: again[0] + 1], again[1]
        size //= 2
    for smaller in _smaller(world):
        world = (
            replace(world, site=smaller(world.site))
            if (again := first_problem(folder, replace(world, site=smaller(world.site)), steps_left))
            else world
        )
        problem = again[1] if again else problem
    return world, steps_left, problem


def _smaller(world: World) -> Iterator[Any]:
    """Yield functions that leave a page, a link or the sitemap out of a site."""
    yield lambda site: replace(site, sitemap=frozenset())
    for path, page in world.site.pages.items():
        if path != "/":
            yield lambda site, path=path: replace(site, pages={k: v for k, v in site.pages.items() if k != path})
        for link in page.links:
            yield lambda site, path=path, link=link: _without_link(site, path, link)


def _without_link(site: Site, path: str, link: str) -> Site:
    if path not in site.pages:
        return site
    return site.with_page(path, links=tuple(kept for kept in site.pages[path].links if kept != link))


def described(world: World, life: Sequence[Step], problem: str) -> str:
    """Return a case for a reader."""
    pages = [
        f"  {path} -> {' '.join(page.links) or 'nowhere'}, validators: {page.validators}"
        for path, page in sorted(world.site.pages.items())
    ]
    sitemap = [f"  sitemap: {' '.join(sorted(world.site.sitemap))}"] if world.site.sitemap else []
    return "\n".join([problem, *pages, *sitemap, *(f"  {number}. {step}" for number, step in enumerate(life, start=1))])


SEEDS = range(int(os.environ.get("KB_TEST_MODEL_SEEDS", "20")))
REFRESHES = int(os.environ.get("KB_TEST_MODEL_REFRESHES", "8"))


@pytest.mark.parametrize("seed", SEEDS)
def test_documents_are_what_the_history_of_a_site_demands(tmp_path: Path, seed: int) -> None:
    world = planted(seed)
    life = list(steps(seed, REFRESHES, world))
    if first_problem(tmp_path, world, life):
        pytest.fail(described(*shrunk(tmp_path, world, life)), pytrace=False)
