"""Looking into versions by the command line: what differs, where it came from, what it is made of, how it leaves."""

from __future__ import annotations

import hashlib
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from kb_pipeline_tests.databases import home_environment
from kb_pipeline_tests.kb import Done, Kb
from kb_pipeline_tests.site import serve_site

pytestmark = pytest.mark.xdist_group("inspect")  # one worker builds what the module's tests share

KB = "acme/docs"
PROVENANCE = {
    "url", "fetched_at", "etag", "last_modified", "content_type", "sha256", "start", "end", "code", "libraries",
    "model", "run_id",
}  # fmt: skip


@dataclass(frozen=True)
class Built:
    """A KB of two versions: the second has other pears, quinces and no plums."""

    kb: Kb
    url: str
    runs: tuple[str, ...]
    replayed_at_first: Done

    def __call__(self, command: str, *arguments: str) -> Done:
        return self.kb(command, KB, *arguments)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[Built]:
    """Built once: every build is a Dagster run of its own. The tests only read."""
    folder = tmp_path_factory.mktemp("inspect")
    (folder / "home").mkdir()
    (folder / "home/models").symlink_to(models_dir)
    kb = Kb(folder)
    with pytest.MonkeyPatch.context() as environment, serve_site() as site:
        for name in ("KB_DATABASE_URL", "KB_STORAGE_URI", "KB_CONTACT", "KB_LOG_FORMAT", "DAGSTER_HOME"):
            environment.delenv(name, raising=False)
        for name, value in home_environment(folder / "home").items():
            environment.setenv(name, value)
        site.put("/", "Orchard", "The handbook of our orchard.", ("/apples", "/pears", "/plums"))
        site.put("/apples", "Apples", "Apples keep for months in a cool and dark cellar.")
        site.put("/pears", "Pears", "Pears ripen after they are picked.")
        site.put("/plums", "Plums", "Plums are dried into prunes.")
        kb.apply(site, publish={"max_shrink": 0.5})
        first = kb.build()
        replayed = kb("replay", KB, f"{site.url}/apples", "--json")
        site.put("/", "Orchard", "The handbook of our orchard.", ("/apples", "/pears", "/quinces"))
        site.put("/pears", "Pears", "Pears are distilled into a clear brandy.")
        site.put("/quinces", "Quinces", "Quinces are too hard to be eaten raw.")
        del site.pages["/plums"]
        second = kb.build()
        assert (first.status, second.status) == (0, 0), first.err + second.err
        yield Built(kb, site.url, (first.json["run_id"], second.json["run_id"]), replayed)


def test_a_diff_counts_and_lists_the_keys(built: Built) -> None:
    diff = built("diff", "1", "2", "--json").json
    assert (diff["kb"], diff["from"], diff["to"]) == (KB, 1, 2)
    assert diff["documents"] == {"added": 1, "changed": 2, "removed": 1, "unchanged": 1}
    assert diff["added"] == [f"{built.url}/quinces"]
    assert diff["changed"] == [f"{built.url}/", f"{built.url}/pears"]
    assert diff["removed"] == [f"{built.url}/plums"]
    told = built("diff", "1", "2").out
    assert f"- {built.url}/plums" in told
    assert f"+ {built.url}/quinces" in told


@pytest.fixture(scope="module")
def exports(built: Built, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Both versions as files."""
    folder = tmp_path_factory.mktemp("exports")
    for version in ("1", "2"):
        done = built("export", str(folder / version), "--as-of", version, "--json")
        assert (done.status, done.json["version"], done.json["documents"]) == (0, int(version), 4)
        assert {file["name"] for file in done.json["files"]} == {path.name for path in (folder / version).iterdir()}
    return [folder / "1", folder / "2"]


def test_a_feed_carries_one_export_to_the_next(built: Built, exports: list[Path]) -> None:
    held = [held_in(directory) for directory in exports]
    for line in built("diff", "1", "2", "--feed").lines:
        row_id = line[f"{line['kind']}_id"]
        if line["change"] == "removed":
            del held[0][line["kind"]][row_id]
        else:
            held[0][line["kind"]][row_id] = line["title"] if line["kind"] == "document" else line["text"]
    assert held[0] == held[1]


def held_in(directory: Path) -> dict[str, dict[str, str]]:
    columns = {"document": "title", "chunk": "text"}
    files = {kind: pl.read_parquet(directory / f"{kind}s.parquet") for kind in columns}
    return {kind: dict(files[kind].select(f"{kind}_id", columns[kind]).iter_rows()) for kind in columns}


def test_versions_to_compare_must_be_there(built: Built) -> None:
    assert built("diff", "1", "7").status == 2
    assert built("diff", "1", "2100-01-01T00:00Z", "--json").json["to"] == 2


def test_an_export_holds_the_vectors_of_the_model(exports: list[Path]) -> None:
    chunks = pl.read_parquet(exports[1] / "chunks.parquet")
    assert chunks.schema["vector"] == pl.Array(pl.Float32, 384)
    assert np.allclose(np.linalg.norm(chunks["vector"].to_numpy(), axis=1), 1, atol=1e-3)


def test_a_directory_with_something_in_it_is_left_alone(built: Built, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    refused = built("export", str(tmp_path))
    assert (refused.status, "is not empty" in refused.err) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_a_document_comes_out_of_its_bytes_as_it_went_in(built: Built) -> None:
    replayed = built.replayed_at_first
    assert (replayed.status, replayed.json["matches"], replayed.json["differs"]) == (0, True, [])
    assert replayed.json["chunks"]["matching"] == replayed.json["chunks"]["stored"] >= 1
    done = built("replay", f"{built.url}/plums", "--as-of", "1")
    assert (done.status, "version 1: matches" in done.out) == (0, True), done
    assert built("replay", f"{built.url}/plums").status == 2


def test_every_hit_is_traced_to_its_bytes_its_place_and_its_run(built: Built) -> None:
    hits = built("search", "cellar brandy", "--mode", "keyword", "--provenance", "--json").json["hits"]
    for hit in hits:
        origin: dict[str, Any] = hit["provenance"]
        assert set(origin) == PROVENANCE
        raw = built("page", hit["key"], "--raw").out.encode()
        page = built("page", hit["key"], "--json").json
        assert hashlib.sha256(raw).hexdigest() == origin["sha256"] == page["sha256"]
        assert page["markdown"][origin["start"] : origin["end"]] == hit["text"]
        assert origin["url"] == hit["key"]
        assert origin["etag"]
        shared = PROVENANCE - {"start", "end"}
        assert {name: page[name] for name in shared} == {name: origin[name] for name in shared}
    runs = {hit["key"].removeprefix(built.url): hit["provenance"]["run_id"] for hit in hits}
    assert runs == dict(zip(("/apples", "/pears"), built.runs, strict=True))


def test_a_hit_says_where_it_came_from_if_asked(built: Built, exports: list[Path]) -> None:
    told = built("search", "brandy", "--mode", "keyword", "--provenance").out
    sha256 = dict(pl.read_parquet(exports[1] / "documents.parquet").select("key", "sha256").iter_rows())
    assert f"of sha256 {sha256[f'{built.url}/pears']}, fetched " in told
    assert " of sha256 " not in built("search", "brandy", "--mode", "keyword").out


def test_a_hit_is_one_line_of_whole_values_where_nobody_looks(built: Built) -> None:
    told = built("search", "clear", "brandy", "-k", "2", "--mode", "keyword").out.splitlines()
    assert len(told) == 1
    rank, score, key, title, headings, passage = told[0].split("\t")
    assert (rank, key, title, headings) == ("1", f"{built.url}/pears", "Pears", "Pears")
    assert float(score) > 0
    assert passage == "Pears are distilled into a clear brandy."


def test_the_words_of_a_query_need_no_quotes(built: Built) -> None:
    asked = ("cool", "and", "dark", "cellar")
    quoted = built("search", " ".join(asked), "--json").json
    assert built("search", *asked, "--json").json == quoted
    assert built("search", "--json", "-k", "5", *asked).json == quoted
    passage = quoted["hits"][0]["passage"]
    assert passage["text"] == "Apples keep for months in a cool and dark cellar."
    assert [passage["text"][start:end] for start, end in passage["marks"]] == ["cool", "and", "dark", "cellar"]


def test_people_see_a_page_once_and_the_words_marked(built: Built) -> None:
    told = on_a_terminal(built, "search", KB, "brandy", "-k", "1", "--mode", "keyword")
    lines = [line.strip() for line in told.splitlines()]
    assert "\x1b[1mPears\x1b[0m" in lines[0]
    assert f"{built.url}/pears" in lines[1]
    assert "Pears are distilled into a clear \x1b[1;4mbrandy\x1b[0m." in lines[3]


def on_a_terminal(built: Built, *arguments: str) -> str:
    """Return what the command prints to a terminal of 100 columns."""
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (40, 100))
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-m", "kb_pipeline", *arguments]
    with subprocess.Popen(command, env=environment, cwd=built.kb.folder, stdout=its, stdin=its) as running:
        os.close(its)
        told = b""
        while part := _read(ours):
            told += part
    os.close(ours)
    assert running.returncode == 0
    return told.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # EIO: the process has closed its end
        return b""


def test_a_language_without_documents_is_told_with_those_that_there_are(built: Built) -> None:
    absent = built("search", "pears", "--language", "fr", "--json")
    assert (absent.status, absent.json["hits"], absent.json["languages"]) == (0, [], {"en": 4})
    assert "kb: acme/docs: no documents in fr; there are: en 4" in absent.err
    refused = built("search", "pears", "--language", "french")
    assert (refused.status, "there are: en 4" in refused.err) == (2, True), refused.err
    assert "languages" not in built("search", "pears", "--language", "en", "--json").json


def test_context_is_what_stands_around_a_hit(built: Built) -> None:
    hit = built("search", "brandy", "--mode", "keyword", "--context", "1", "--json").json["hits"][0]
    assert (hit["before"], hit["after"]) == ("", "")
    assert built("search", "brandy", "--context", "6").status == 2
