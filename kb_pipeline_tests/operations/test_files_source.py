"""A KB of files, from the file to the published version: what a refresh costs, what it loses, who may read what."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kb_pipeline.control.kbs import catalog
from kb_pipeline.control.runs.failures import list_failures
from kb_pipeline.errors import InvalidSpec
from kb_pipeline.fetch import journal
from kb_pipeline.fetch.files import ROWS
from kb_pipeline.index.documents import list_documents, read_document, read_raw_bytes
from kb_pipeline.operations.erase_document import erase_document
from kb_pipeline.operations.replay import replay_document
from kb_pipeline.operations.source_rules import check_spec, source_warnings
from kb_pipeline.store.stage_tables import PAGES
from kb_pipeline_tests.operations.home import KEY, Home, quick_refreshes, web_source
from kb_pipeline_tests.site import serve_site

QUERY = "how is the quince stored"
FRUITS = ("medlar", "plum", "quince")
THE_KEY = "key 0123456789ab"
"""The actor of an API key."""


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with quick_refreshes():
        yield


class Library:
    """A home with one KB, and the folder that it reads."""

    def __init__(self, place: Path, models_dir: Path) -> None:
        self.home, self.root = Home(place / "home", models_dir), place / "docs"
        for fruit in FRUITS:
            self.put(
                f"fruit/{fruit}.md", f"# The {fruit}\n\nThe {fruit} is picked late and stored on straw until spring."
            )
        self.put("page.html", "<html><body><main><h1>Cellar</h1><p>Every cellar is aired in autumn, before the frost.")

    def put(self, key: str, text: str) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 100))

    def source(self, **fields: Any) -> dict[str, Any]:
        return {"name": "files", "type": "files", "root": str(self.root), "paths": ["**/*.md", "*.html"], **fields}

    def apply(self, *more: dict[str, Any], actor: str = "tester", **fields: Any) -> None:
        self.home.apply_sources(KEY, [self.source(**fields), *more], actor, publish={"max_shrink": 1})

    def keys(self) -> list[str]:
        return sorted(row.key for row in list_documents(self.home.reader()))

    def failures(self) -> dict[str, str]:
        return {row.key: row.reason for row in list_failures(self.home.db, KEY)}


@pytest.fixture
def library(tmp_path: Path, models_dir: Path) -> Library:
    return Library(tmp_path, models_dir)


def test_a_refresh_costs_what_changed(library: Library) -> None:
    home, keys = library.home, [*(f"fruit/{fruit}.md" for fruit in FRUITS), "page.html"]
    library.apply()
    first = home.refresh()
    assert (first.ended, first.worked, library.keys()) == (("ready", 1), (4, 4, 4), keys)
    assert home.hits(QUERY)[0]["key"] == "fruit/quince.md"
    before = home.store().tables.open(PAGES).version
    again = home.refresh()
    assert (again.ended, again.worked) == (("unchanged", 1), (0, 0, 0))
    assert (again.stages["fetch"]["not_asked"], again.stages["fetch"]["files_read"]) == (4, 0)
    assert home.store().tables.open(PAGES).version == before, "an unchanged folder writes nothing"
    library.put("fruit/plum.md", "# The plum\n\nThe plum is dried in the oven now, and sold in small sacks.")
    changed = home.refresh()
    assert (changed.ended, changed.worked) == (("ready", 2), (1, 1, 1))
    (library.root / "fruit/medlar.md").unlink()
    removed = home.refresh()
    assert (removed.ended, removed.worked) == (("ready", 3), (0, 0, 0))
    assert (removed.stages["fetch"]["deleted"], library.keys()) == (1, keys[1:])
    assert library.failures() == {}
    library.apply(paths=["fruit/*.md"])
    assert (home.refresh().ended, library.keys()) == (("ready", 4), keys[1:3])


def test_a_folder_that_vanishes_takes_nothing_with_it(library: Library) -> None:
    home = library.home
    with serve_site() as site:
        site.put("/", "Orchard", "The handbook of our orchard, and of all that is kept in it.")
        library.apply(web_source(site))
        assert home.refresh().ended == ("ready", 1)
        keys, away = library.keys(), library.root.with_name("away")
        assert len(keys) == 5
        library.root.rename(away)
        site.put("/", "Orchard", "The handbook of our orchard was written anew this spring.")
        gone = home.refresh()
        assert (gone.ended, gone.cleaned, gone.stages["fetch"]["deleted"]) == (("ready_with_warnings", 2), 1, 0)
        assert "root_missing 4" in gone.message
        assert library.keys() == keys
        assert set(library.failures().values()) == {"root_missing"}
        library.root.mkdir()  # as an empty mount point
        empty = home.refresh()
        assert (empty.ended[0], empty.stages["fetch"]["failed_by_reason"]) == ("unchanged", {"empty_folder": 4})
        library.root.rmdir()
        away.rename(library.root)
        back = home.refresh()
        assert (back.ended, back.worked, library.failures()) == (("unchanged", 2), (0, 0, 0), {})


def test_a_folder_that_is_all_that_a_kb_has_fails_the_refresh_when_it_vanishes(library: Library) -> None:
    library.apply()
    library.home.refresh()
    keys = library.keys()
    library.root.rename(library.root.with_name("away"))
    failed = library.home.refresh()
    assert failed.status == "failed"
    assert "the folder is not there" in failed.message
    assert library.keys() == keys


def test_a_document_of_a_file_is_shown_replayed_and_erased(library: Library) -> None:
    home, key = library.home, "fruit/quince.md"
    library.apply()
    home.refresh()
    raw, reader = (library.root / key).read_bytes(), home.reader()
    assert read_raw_bytes(reader, key) == raw
    document = read_document(reader, key)
    assert (document.title, document.provenance.sha256) == ("The quince", hashlib.sha256(raw).hexdigest())
    assert (document.provenance.url, document.consent, document.rendered) == (
        (library.root / key).as_uri(), None, False,
    )  # fmt: skip
    assert replay_document(reader, key).matches
    receipt = erase_document(home.settings, home.db, KEY, key)
    assert receipt.is_finished
    keys = library.keys()
    assert (len(keys), keys.count(key)) == (3, 0)
    assert (home.refresh().status, library.keys()) == ("unchanged", keys)
    assert library.failures() == {key: "erased"}
    (library.root / key).unlink()
    assert home.refresh().status == "unchanged"
    library.put(key, raw.decode())
    assert (home.refresh().status, library.keys()) == ("unchanged", keys), "erased though its row was gone"


def test_what_a_key_applied_reads_only_what_the_operator_opens(library: Library) -> None:
    home = library.home
    home.settings = replace(home.settings, file_roots=(library.root.parent,))
    library.apply(actor=THE_KEY)
    spec = catalog.get_kb(home.db, KEY).read_spec(home.settings)
    check_spec(spec, "kb.yaml", home.settings, is_operator=False)
    assert home.refresh().ended == ("ready", 1)
    keys = library.keys()
    home.settings = replace(home.settings, file_roots=())
    with pytest.raises(InvalidSpec, match=r"sources.0.root: got '.*docs'; a tenant may name folders only beneath"):
        check_spec(spec, "kb.yaml", home.settings, is_operator=False)
    closed = home.refresh()
    assert closed.status == "failed"
    assert "KB_FILE_ROOTS" in closed.message
    assert library.keys() == keys
    check_spec(spec, "kb.yaml", home.settings, is_operator=True)
    library.apply()  # the same file, by the operator
    assert home.refresh().ended == ("unchanged", 1)


def test_a_link_that_leads_out_of_what_is_opened_is_no_way_around(library: Library) -> None:
    home, opened = library.home, library.root.parent / "opened"
    opened.mkdir()
    (opened / "theirs").symlink_to(library.root)
    home.settings = replace(home.settings, file_roots=(opened,))
    library.apply(actor=THE_KEY, root=str(opened / "theirs"))
    with pytest.raises(InvalidSpec, match="beneath"):
        check_spec(catalog.get_kb(home.db, KEY).read_spec(home.settings), "kb.yaml", home.settings, is_operator=False)
    assert home.refresh().status == "failed"
    assert not journal.read_outcomes(home.store().paths.journal("files"), ROWS.schema()).num_rows


def test_whoever_applies_is_told_that_the_folder_is_not_here(library: Library) -> None:
    library.apply(root="/srv/there-is-none-such")
    told = list(
        source_warnings(catalog.get_kb(library.home.db, KEY).read_spec(library.home.settings), library.home.settings)
    )
    assert told == ["source files: there is no folder /srv/there-is-none-such on this machine"]
