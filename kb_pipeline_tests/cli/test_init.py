"""`kb init` writes a file that works as it stands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kb_pipeline.spec.kb_file import load_spec
from kb_pipeline.spec.sources import FilesSource, WebSource
from kb_pipeline_tests.kb import Kb
from kb_pipeline_tests.site import Site, plant_orchard

SITEMAP = '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{}</urlset>'


def _name(site: Site, *paths: str) -> None:
    """Serve a sitemap of these paths."""
    locations = "".join(f"<url><loc>{site.url}{path}</loc></url>" for path in paths)
    site.pages["/sitemap.xml"] = SITEMAP.format(locations)


def _only_source(path: Path) -> WebSource | FilesSource:
    (source,) = load_spec(path).spec.sources
    return source


def test_a_file_for_a_site_is_written_applied_and_built_as_it_stands(kb: Kb, site: Site) -> None:
    plant_orchard(site)
    _name(site, "/", "/apples", "/pears", "/plums", "/quinces")
    done = kb("init", site.url)
    assert done.status == 0, done.err
    assert "its sitemaps name 5 pages of its host: at most 100 are fetched" in done.err
    assert "it is written in en" in done.err
    lines = done.out.splitlines()
    assert lines[0] == "127-0-0-1.yaml is written; go on with:"
    source = _only_source(kb.folder / "127-0-0-1.yaml")
    assert isinstance(source, WebSource)
    assert (source.start_urls, source.scope, source.max_pages, source.delay_s) == ([f"{site.url}/"], "host", 100, 1.0)
    assert load_spec(kb.folder / "127-0-0-1.yaml").spec.languages == ["en"]
    assert load_spec(kb.folder / "127-0-0-1.yaml").spec.schedule is not None
    commands = [line.split()[1:] for line in lines[1:]]
    assert commands[0] == ["apply", "127-0-0-1.yaml"]
    assert kb(*commands[0]).status == 0
    assert kb(*commands[1]).status == 0
    assert "Apples" in kb(*commands[2][:2], "apples in a cellar").out


def test_a_url_with_a_folder_stays_below_it_and_follows_where_it_leads(kb: Kb, site: Site) -> None:
    site.put("/docs/en/", "Docs", "The documentation.", ("/docs/en/a", "/blog/b"))
    site.redirects["/docs/"] = "/docs/en/"
    assert kb("init", f"{site.url}/docs/", "-o", "x.yaml", "--tenant", "acme", "--kb", "docs").status == 0
    source = _only_source(kb.folder / "x.yaml")
    assert isinstance(source, WebSource)
    assert (source.start_urls, source.scope, source.max_pages) == ([f"{site.url}/docs/en/"], "prefix", 500)
    assert str(load_spec(kb.folder / "x.yaml").spec.key) == "acme/docs"


def test_a_crawl_delay_and_scripts_are_taken_into_account(kb: Kb, site: Site) -> None:
    site.pages["/robots.txt"] = "User-agent: *\nCrawl-delay: 3\n"
    site.pages["/"] = "<!doctype html><html lang=fi><div id=root></div><script src=/app.js></script>"
    done = kb("init", site.url, "-o", "-")
    assert "  delay_s: 3\n" in done.out.replace("    ", "  ")
    assert "render: auto" in done.out
    assert "languages: [fi]" in done.out


@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        (lambda site: site.pages.update({"/robots.txt": "User-agent: *\nDisallow: /\n"}), "robots.txt"),
        (lambda site: site.status.update({"/": 404}), "status 404"),
        (lambda site: site.redirects.update({"/": "/a", "/a": "/"}), "redirects more than"),
    ],
)
def test_a_site_that_gives_no_page_is_told_and_nothing_is_written(
    kb: Kb, site: Site, prepare: Callable[[Site], object], told: str
) -> None:
    site.put("/", "Home", "Welcome.")
    prepare(site)
    done = kb("init", site.url)
    assert (done.status, told in done.err) == (2, True), done.err
    assert not list(kb.folder.glob("*.yaml"))


def test_an_address_that_is_not_opened_is_refused_as_by_a_crawl(kb: Kb) -> None:
    done = kb("init", "http://10.1.2.3/")
    assert done.status == 2
    assert "KB_ALLOW_PRIVATE_NETWORKS" in done.err


def test_a_folder_becomes_a_source_of_files(kb: Kb) -> None:
    notes = kb.folder / "My Notes"
    (notes / "deep").mkdir(parents=True)
    for name in ("a.md", "deep/b.md", "c.html", "picture.png", ".hidden/d.md"):
        (notes / name).parent.mkdir(exist_ok=True)
        (notes / name).write_text("# Title\n\nSome text.\n")
    assert kb("init", "My Notes").status == 0
    source = _only_source(kb.folder / "my-notes.yaml")
    assert isinstance(source, FilesSource)
    assert (source.root, sorted(source.paths)) == (str(notes), ["**/*.html", "**/*.md"])
    (kb.folder / "empty").mkdir()
    assert "holds no file that can be read" in kb("init", "empty").err


def test_a_file_that_exists_is_not_overwritten(kb: Kb, site: Site) -> None:
    site.put("/", "Home", "Welcome.")
    (kb.folder / "x.yaml").write_text("mine")
    refused = kb("init", site.url, "-o", "x.yaml")
    assert (refused.status, (kb.folder / "x.yaml").read_text()) == (2, "mine")
    assert kb("init", site.url, "-o", "x.yaml", "--force").status == 0
    assert _only_source(kb.folder / "x.yaml").type == "web"


@pytest.mark.parametrize(("arguments", "told"), [([], "give the URL"), (["no such thing"], "neither a URL")])
def test_what_is_neither_site_nor_folder_is_told(kb: Kb, arguments: list[str], told: str) -> None:
    done = kb("init", *arguments)
    assert (done.status, told in done.err) == (2, True)
