"""The stage over stored pages: what is cleaned again, what is kept, what counts as the same document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kb_pipeline.clean.refresh import failed_documents, refresh_documents
from kb_pipeline.clean.rules import CleaningRules
from kb_pipeline.clean.simhash import MAX_HAMMING_DISTANCE, simhash
from kb_pipeline.fetch.refresh import refresh_pages
from kb_pipeline.fetch.web.rules import CrawlRules
from kb_pipeline.fetch.web.source import WebSite
from kb_pipeline.host_scheduler import LocalHostScheduler
from kb_pipeline.model import KbKey, StageReport, document_id
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.paths import KbPaths
from kb_pipeline.store.stage_tables import DOCUMENTS
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
        refresh_pages(
            self.store, [WebSite(crawl)], "run", lambda done, total: None, lambda source: LocalHostScheduler()
        )
        return refresh_documents(self.store, rules or CleaningRules(), "run", lambda done, total: None)

    def documents(self) -> dict[str, tuple[str | None, str | None]]:
        rows = self.store.tables.open(DOCUMENTS).read_columns(
            ["key", "markdown", "duplicate_of"], "outcome = 'document'"
        )
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


TEXT = " ".join(f"The {word} is kept in the cellar until the frost is over." for word in (
    "apple", "pear", "plum", "quince", "medlar", "cherry", "sloe", "fig", "peach", "grape", "currant", "walnut",
))  # fmt: skip


def _says_canonical(site: Site, path: str, canonical: str, text: str, links: tuple[str, ...] = ()) -> None:
    site.put(path, "Fruit", text, links)
    head = f'<link rel="canonical" href="{canonical}"><link rel=alternate hreflang=DE href="/de{path}">'
    site.pages[path] = site.pages[path].replace("<title>", f"{head}<title>")


def test_a_page_whose_canonical_address_has_nearly_its_text_is_that_page(stages: Stages) -> None:
    site = stages.site
    site.put("/", "Start", "Where it all begins.", ("/fruit?sort=a", "/fruit?page=2", "/home"))
    _says_canonical(site, "/fruit", "/fruit", TEXT)
    _says_canonical(site, "/fruit?sort=a", "/fruit#top", TEXT + " Sorted by name.")
    _says_canonical(site, "/fruit?page=2", "/fruit", "Of nuts there are hazels, almonds and pecans on the second page.")
    _says_canonical(site, "/home", "/", "A page that calls the home page its own address, as a careless template does.")
    stages.refresh()
    twins = {path: twin for path, (_, twin) in stages.documents().items()}
    assert twins == {
        "/": None, "/fruit": None, "/fruit?page=2": None, "/home": None,
        "/fruit?sort=a": document_id("site", site.url + "/fruit"),
    }  # fmt: skip
    site.put("/fruit?sort=a", "Fruit", "Something else entirely is written on this page now, of bees and of hives.")
    stages.refresh()
    assert stages.documents()["/fruit?sort=a"][1] is None


def test_of_equal_pages_the_one_that_the_others_call_canonical_stays(stages: Stages) -> None:
    site = stages.site
    site.put("/", "Start", "Where it all begins.", ("/a", "/a/long/name"))
    _says_canonical(site, "/a", "/a/long/name", TEXT)
    site.put("/a/long/name", "Fruit", TEXT)
    stages.refresh()
    assert stages.documents()["/a"][1] == document_id("site", site.url + "/a/long/name")


def test_translations_that_a_page_names_are_kept(stages: Stages) -> None:
    _says_canonical(stages.site, "/", "/", TEXT)
    stages.refresh()
    rows = stages.store.tables.open(DOCUMENTS).read_columns(["key", "translations"], "translations IS NOT NULL")
    assert {key: json.loads(names) for key, names in rows.iter_rows()} == {
        stages.site.url + "/": {"de": stages.site.url + "/de/"}
    }


def test_simhashes_of_nearly_equal_texts_are_close_and_of_others_are_not() -> None:
    other = TEXT.replace("cellar", "attic").replace("frost", "summer")
    assert (simhash(TEXT) ^ simhash(TEXT + " One more sentence.")).bit_count() <= MAX_HAMMING_DISTANCE
    assert (simhash(TEXT) ^ simhash(other)).bit_count() > 2 * MAX_HAMMING_DISTANCE
    assert simhash("") == 0
    assert simhash("word") == simhash("Word!")
