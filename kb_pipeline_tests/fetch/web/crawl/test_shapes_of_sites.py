"""Which pages a crawl of a site of each shape keeps, and how far it goes where there is no end."""

from __future__ import annotations

from pathlib import Path

import pytest

from kb_pipeline_tests.fetch.web.crawl.shapes import REAL, TRAPS, Shape, ShapedSite, beside_traps
from kb_pipeline_tests.fetch.web.crawl.test_crawler import Crawl
from kb_pipeline_tests.fetch.web.scripted import SITE, ScriptedSite


class Visited:
    """What a crawl of a shape kept and asked for."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        self.site = ScriptedSite()
        self.site.answers = ShapedSite(shape)  # type: ignore[assignment]  # only its get is used
        self.crawl = Crawl(folder, self.site)
        self.outcomes = self.crawl(max_pages=5000, max_depth=500)
        self.kept = {path for path, outcome in self.outcomes.items() if outcome == "fetched"}
        self.asked = [url.removeprefix(SITE) for url in self.site.asked.elements()]


@pytest.mark.parametrize("name", REAL)
def test_every_page_of_a_real_site_is_kept(tmp_path: Path, name: str) -> None:
    shape, wanted = REAL[name]
    visited = Visited(tmp_path, shape)
    assert set(wanted) - visited.kept == set()
    assert len(wanted) >= 60


@pytest.mark.parametrize("name", TRAPS)
def test_a_trap_beside_few_pages_costs_few_visits(tmp_path: Path, name: str) -> None:
    shape, wanted = beside_traps([name], real=40)
    visited = Visited(tmp_path, shape)
    assert set(wanted) <= visited.kept
    assert len(visited.asked) < len(wanted) + 45


def test_all_pages_between_ten_traps_are_kept_for_few_other_requests(tmp_path: Path) -> None:
    shape, wanted = beside_traps(TRAPS, real=400)
    visited = Visited(tmp_path, shape)
    assert set(wanted) <= visited.kept
    assert len(visited.asked) - len(wanted) < 200
    assert all(visited.site.asked[SITE + path] == 1 for path in wanted)
