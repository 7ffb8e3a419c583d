"""A KB of pages that are nothing without their scripts, from the KB file to the hits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kb_pipeline.errors import BrowserMissing
from kb_pipeline.fetch.web.crawl.find_browser import find_browser
from kb_pipeline.index.documents import read_document
from kb_pipeline_tests.operations.home import Home, quick_refreshes
from kb_pipeline_tests.site import serve_site

try:
    find_browser("")
except BrowserMissing as missing:
    pytest.skip(str(missing), allow_module_level=True)

SAID = "Medlars are bletted on straw until the first frost has softened them."


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with quick_refreshes():
        yield


def test_without_the_browser_that_the_operator_names_the_refresh_fails_and_says_so(
    tmp_path: Path, models_dir: Path
) -> None:
    home = Home(tmp_path / "home", models_dir)
    with serve_site() as site:
        site.put("/", "Orchard", "The handbook of our orchard: how fruit is picked and stored.")
        home.apply(site, source={"render": "auto"})
        home.settings = replace(home.settings, browser="/no/such/browser")
        refreshed = home.refresh()
    assert refreshed.status == "failed"
    assert "there is no /no/such/browser; install it" in refreshed.message
    assert not site.asked


def test_a_page_of_scripts_is_a_failure_until_it_is_rendered(tmp_path: Path, models_dir: Path) -> None:
    home = Home(tmp_path / "home", models_dir)
    with serve_site() as site:
        site.put("/", "Orchard", "The handbook of our orchard: how fruit is picked and stored.", ("/medlars",))
        script = f"root.innerHTML = '<h1>Medlars</h1><p>' + {json.dumps(SAID)} + '</p>'"
        site.pages["/medlars"] = f"<title>Medlars</title><div id=root></div><script>{script}</script>"
        home.apply(site)
        shell = home.refresh()
        assert shell.status == "ready_with_warnings"
        assert "1 page is left out (needs_javascript): set render: auto" in shell.message
        assert (home.keys(), home.failures()) == (["/"], {"/medlars": "needs_javascript"})
        home.apply(site, source={"render": "auto"})
        refreshed = home.refresh()
        assert (refreshed.status, refreshed.stages["fetch"]["rendered"]) == ("ready", 1)
        assert (home.keys(), home.failures()) == (["/", "/medlars"], {})
        assert home.hits("how are medlars softened", mode="keyword")[0]["key"] == f"{site.url}/medlars"
        document = read_document(home.reader(), f"{site.url}/medlars")
        assert document.rendered
        assert home.refresh().status == "unchanged"
