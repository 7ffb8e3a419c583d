"""The stage over stored pages: what is cleaned again, what is kept, what counts as the same document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kb_pipeline.clean.refresh import failed_documents, refresh_documents
from kb_pipeline.clean.rules import CleaningRules
from kb_pipeline.fetch.refresh import refresh_pages
from kb_pipeline.fetch.web.rules import CrawlRules
from kb_pipeline.fetch.web.turns import UnsharedTurns
from kb_pipeline.model import KbKey, StageReport
from kb_pipeline.storage import KbPaths
from kb_pipeline.tables import DOCUMENTS, KbStore
from kb_pipeline_tests.site import Site, serve_site

ORCHARD = "The handbook of our orchard tells how fruit is picked and stored."


class Stages:
    """Fetch and clean over one site."""

    def __init__(self, data_dir: Path, site: Site) -> None:
        self.site = site
        self.store = KbStore(KbPaths(data_dir, KbKey("acme", "docs")))

    def refresh(self, rules: CleaningRules | None = None) -> StageReport:
        crawl = CrawlRules(
            source="site", start_urls=(self.site.url + "/",), sitemap="off", scope="host", include=(), exclude=(),
            max_pages=100, max_depth=5, delay_s=0, user_agent="test", allowed_networks=("127.0.0.0/8",), retries=0,
        )  # fmt: skip
        refresh_pages(self.store, [crawl], "run", lambda done, total: None, lambda source: UnsharedTurns())
        return refresh_documents(self.store, rules or CleaningRules(), "run", lambda done, total: None)

    def documents(self) -> dict[str, tuple[str | None, str | None]]:
        rows = self.store.tables.open(DOCUMENTS).narrow(["key", "markdown", "duplicate_of"], "outcome = 'document'")
        return {key.removeprefix(self.site.url): (text, twin) for key, text, twin in rows.iter_rows()}


@pytest.fixture
def stages(tmp_path: Path) -> Iterator[Stages]:
    with serve_site() as site:
        site.put("/", "Orchard", ORCHARD, ("/plums", "/twin"))
        site.put("/plums", "Plums", "Plums are dried into prunes.")
        site.pages["/twin"] = site.pages["/plums"]
        yield Stages(tmp_path, site)


def test_documents_with_the_same_text_are_one_and_the_others_name_it(stages: Stages) -> None:
    report = stages.refresh()
    assert (report.entered, report.passed, report.rejected["duplicate"]) == (3, 2, 1)
    assert report.reconciles
    twins = {key: twin is not None for key, (_, twin) in stages.documents().items()}
    assert twins == {"/": False, "/plums": True, "/twin": False}  # the shorter name stays
    stages.site.put("/twin", "Quinces", "Quinces are cooked.")
    assert stages.refresh().rejected["duplicate"] == 0
    assert all(twin is None for _, twin in stages.documents().values())


def test_only_changed_bytes_are_cleaned_again(stages: Stages) -> None:
    stages.refresh()
    stages.site.put("/plums", "Plums", "Plums are distilled.")
    report = stages.refresh()
    assert (report.entered, report.unchanged) == (3, 2)
    version = stages.store.tables.open(DOCUMENTS).version
    assert stages.refresh().unchanged == 3
    assert stages.store.tables.open(DOCUMENTS).version == version


def test_a_document_whose_new_bytes_cannot_be_cleaned_keeps_its_last_good_text(stages: Stages) -> None:
    stages.site.put("/twin", "Quinces", "Quinces are cooked.")
    stages.refresh()
    cells = "<td>plum</td>" * 50
    stages.site.put("/plums", "Plums", "<table>" + f"<tr>{cells}</tr>" * 4000 + "</table>")
    report = stages.refresh(CleaningRules(memory_mb=16))
    assert report.extra.get("kept_last_good") == 1, report
    assert report.reconciles
    assert "prunes" in (stages.documents()["/plums"][0] or "")
    (failure,) = failed_documents(stages.store)
    assert (failure["reason"], failure["outcome"]) == ("memory", "failed")
    stages.site.put("/plums", "Plums", "Plums are distilled.")
    stages.refresh()
    assert "distilled" in (stages.documents()["/plums"][0] or "")
    assert not list(failed_documents(stages.store))


def test_a_page_that_is_gone_takes_its_document_with_it(stages: Stages) -> None:
    stages.refresh()
    del stages.site.pages["/twin"]
    report = stages.refresh()
    assert report.deleted == 1
    assert set(stages.documents()) == {"/", "/plums"}
    assert stages.documents()["/plums"][1] is None  # its twin stood for it; now it stands for itself
