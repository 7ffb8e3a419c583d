"""Parquet files of a version: whole, the same every time, and readable by others."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from kb_pipeline.errors import DamagedStore, KbError, UsageError
from kb_pipeline.index import export
from kb_pipeline.index.documents import read_raw_bytes
from kb_pipeline.index.export import Export, export_version
from kb_pipeline.model import KbKey, document_id
from kb_pipeline.store.manifest import Manifest, TablePin
from kb_pipeline_tests.index.fruit import DIMENSION, vector_of
from kb_pipeline_tests.index.orchard import Orchard

KEYS = ("/apples", "/pears", "/plums", "/quinces")


def grown(folder: Path, keys: tuple[str, ...] = KEYS) -> Orchard:
    kb = Orchard(folder)
    for key in keys:
        kb.grow(key, f"First of {key}.", f"Second of {key}.", f"Third of {key}.")
    kb.publish()
    return kb


@pytest.fixture
def orchard(tmp_path: Path) -> Orchard:
    return grown(tmp_path / "data")


def hashes(exported: Export) -> dict[str, str]:
    return {file.name: file.sha256 for file in exported.files}


def test_it_says_what_it_wrote(orchard: Orchard, tmp_path: Path) -> None:
    done = export_version(orchard.version(1), tmp_path / "out")
    assert (str(done.kb), done.version, done.documents, done.chunks) == ("acme/fruit", 1, 4, 12)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {file.name for file in done.files}
    for file in done.files:
        body = (tmp_path / "out" / file.name).read_bytes()
        assert (file.bytes, file.sha256) == (len(body), hashlib.sha256(body).hexdigest())
    assert [file.rows for file in done.files] == [4, 12, None]
    written = json.loads((tmp_path / "out/manifest.json").read_text())
    assert Manifest.from_json(KbKey("acme", "fruit"), 1, written) == orchard.manifests[0]


def test_its_json_has_the_words_of_the_command_line(orchard: Orchard, tmp_path: Path) -> None:
    told = export_version(orchard.version(1), tmp_path / "out").as_json()
    assert list(told) == ["kb", "version", "directory", "documents", "chunks", "files"]
    assert (told["kb"], told["directory"]) == ("acme/fruit", str(tmp_path / "out"))
    assert [list(file) for file in json.loads(json.dumps(told))["files"]] == [["name", "bytes", "sha256", "rows"]] * 3


def test_documents_say_what_they_are_and_where_they_came_from(orchard: Orchard, tmp_path: Path) -> None:
    export_version(orchard.version(1), tmp_path / "out")
    rows = pl.read_parquet(tmp_path / "out/documents.parquet")
    assert rows.columns == [
        "document_id", "source", "key", "url", "title", "language", "markdown", "canonical_url", "published",
        "modified", "sha256", "etag", "last_modified", "content_type", "fetched_at", "run_id",
    ]  # fmt: skip
    assert rows["key"].to_list() == list(KEYS)
    row = rows.row(1, named=True)
    assert (row["url"], row["content_type"]) == ("http://x.example/pears", "text/html")
    raw = read_raw_bytes(orchard.version(1), "/pears")
    assert row["sha256"] == hashlib.sha256(raw).hexdigest()
    assert row["etag"] == f'"{row["sha256"][:8]}"'


def test_chunks_stand_in_the_order_of_the_text_beside_their_vectors(orchard: Orchard, tmp_path: Path) -> None:
    export_version(orchard.version(1), tmp_path / "out")
    rows = pl.read_parquet(tmp_path / "out/chunks.parquet")
    assert rows.schema["vector"] == pl.Array(pl.Float32, DIMENSION)
    assert rows["text"].to_list() == [f"{which} of {key}." for key in KEYS for which in ("First", "Second", "Third")]
    vectors = rows["vector"].to_numpy()
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(vectors, np.stack([vector_of(text) for text in rows["words"]]))
    index = orchard.version(1).table("index").read_columns(["chunk_id", "vector"])
    assert rows.select("chunk_id", "vector").sort("chunk_id").equals(index.sort("chunk_id"))
    markdown = dict(pl.read_parquet(tmp_path / "out/documents.parquet").select("key", "markdown").iter_rows())
    assert all(markdown[row["key"]][row["start"] : row["end"]] == row["text"] for row in rows.iter_rows(named=True))


def test_two_exports_of_one_version_are_the_same_files(orchard: Orchard, tmp_path: Path) -> None:
    first = export_version(orchard.version(1), tmp_path / "1")
    orchard.grow("/pears", "Pears are otherwise now.")
    orchard.remove(["/plums"])
    orchard.chunks.optimize()
    later = orchard.publish()
    assert hashes(export_version(orchard.version(1), tmp_path / "2")) == hashes(first)
    assert export_version(orchard.reader(later), tmp_path / "3").documents == 3


def test_the_same_content_gives_the_same_files_whatever_the_order_of_the_tables(tmp_path: Path) -> None:
    keys = tuple(f"/{number:02}" for number in range(12))
    shuffled = tuple(random.Random(5).sample(keys, len(keys)))
    one, other = (grown(tmp_path / f"data{n}", order) for n, order in enumerate([keys, shuffled]))
    done = [hashes(export_version(kb.version(1), tmp_path / f"{n}")) for n, kb in enumerate([one, other])]
    assert done[0]["documents.parquet"] == done[1]["documents.parquet"]
    assert done[0]["chunks.parquet"] == done[1]["chunks.parquet"]


def test_many_rows_are_written_in_groups(orchard: Orchard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = export_version(orchard.version(1), tmp_path / "1")
    monkeypatch.setattr(export, "_BATCH", 5)
    monkeypatch.setattr(export, "_GROUP_ROWS", 6)
    export_version(orchard.version(1), tmp_path / "2")
    assert [pq.ParquetFile(tmp_path / name / "chunks.parquet").num_row_groups for name in "12"] == [1, 2]
    assert pl.read_parquet(tmp_path / "1/chunks.parquet").equals(pl.read_parquet(tmp_path / "2/chunks.parquet"))
    assert whole.chunks == 12


def test_a_duplicate_is_not_exported(orchard: Orchard, tmp_path: Path) -> None:
    orchard.grow("/plums", "First of /pears.", duplicate_of="/pears")
    done = export_version(orchard.reader(orchard.publish()), tmp_path / "out")
    assert (done.documents, done.chunks) == (3, 9)


def test_an_empty_version_gives_empty_files_with_every_column(tmp_path: Path) -> None:
    kb = Orchard(tmp_path / "data")
    export_version(kb.reader(kb.publish()), tmp_path / "out")
    export_version(grown(tmp_path / "other", ("/pears",)).version(1), tmp_path / "one")
    for name in ("documents.parquet", "chunks.parquet"):
        empty, one = (pl.read_parquet(tmp_path / folder / name) for folder in ("out", "one"))
        assert empty.is_empty()
        assert empty.schema == one.schema


def test_validators_of_newer_bytes_are_not_those_of_the_document_that_was_kept(
    orchard: Orchard, tmp_path: Path
) -> None:
    orchard.put_page("/pears", b"newer bytes that no document came of")
    version = orchard.reader(orchard.publish())
    export_version(version, tmp_path / "out")
    row = pl.read_parquet(tmp_path / "out/documents.parquet").row(1, named=True)
    assert (row["key"], row["etag"], row["content_type"]) == ("/pears", None, None)
    kept = read_raw_bytes(version, "/pears")
    assert hashlib.sha256(kept).hexdigest() == row["sha256"]


def test_an_empty_directory_is_taken_and_missing_ones_are_made(orchard: Orchard, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "a/b/c"):
        export_version(orchard.version(1), tmp_path / name)
        assert (tmp_path / name / "chunks.parquet").exists()


def test_what_lies_in_the_way_is_left_as_it_is(orchard: Orchard, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/precious.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("full", "file", "file/below"):
        with pytest.raises(UsageError):
            export_version(orchard.version(1), tmp_path / name)
    assert (tmp_path / "full/precious.txt").read_text() == (tmp_path / "file").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"data", "full", "file"}


def test_an_export_that_fails_leaves_nothing(orchard: Orchard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = orchard.manifests[0]
    index = orchard.store.tables.open(manifest.tables["index"].name)
    index.delete("document_id", [document_id("site", "/pears")])
    pins = {**manifest.tables, "index": TablePin(index.path.stem, index.version)}
    damaged = orchard.reader(replace(manifest, tables=pins))
    with pytest.raises(DamagedStore, match="3 rows have nothing that belongs to them in index"):
        export_version(damaged, tmp_path / "out")

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "_describe", no_space)
    with pytest.raises(KbError, match="No space left"):
        export_version(orchard.version(1), tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"data"}
