"""Manifests as they are written and read: by this release, by earlier ones, and when they are not what they must be."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kb_pipeline.account import Account, ReasonCount, SourceAccount
from kb_pipeline.errors import InvalidManifest
from kb_pipeline.model import EmbeddingModel, KbKey
from kb_pipeline.store.manifest import (
    Counts,
    GateVerdict,
    Manifest,
    TablePin,
    manifest_numbers,
    manifest_path,
    read_manifest,
    write_manifest,
)
from kb_pipeline.store.paths import KbPaths
from kb_pipeline_tests.store.manifests import manifest_of

KEY = KbKey("acme", "docs")
EVERYTHING = manifest_of(
    KEY,
    3,
    scores={"known_item_recall_at_5": 1.0, "known_item_mrr": 0.9375},
    gates={"has_documents": GateVerdict(passed=True, message="3 documents")},
    forced=("not_shrunk: 9 of 12 documents vanished",),
    account=Account(
        (SourceAccount("site", 6, 3, 1, 0, (ReasonCount("fetch", "too_deep", "limits", 2),)),), not_recorded=7
    ),
    pruned_at=datetime(2026, 11, 22, tzinfo=UTC),
)
FIRST_RELEASE: dict[str, Any] = {
    "kb": "acme/docs",
    "version": 1,
    "created_at": "2026-10-01T08:00:00.000123+00:00",
    "run_id": "c0ffee",
    "tables": {
        "pages": {"name": "pages", "version": 4},
        "documents": {"name": "documents", "version": 3},
        "chunks": {"name": "chunks", "version": 2},
        "index": {"name": "index_0123456789abcdef", "version": 7},
    },
    "spec": {"sources": "aa", "chunking": "bb", "embedding": "cc"},
    "model": {"name": "all-MiniLM-L6-v2", "fingerprint": "0123456789abcdef" * 2, "dimension": 384},
    "code": {"clean": "1", "chunk": "1", "index": "1"},
    "counts": {"documents": 12, "chunks": 34},
    "languages": {"en": 11, "und": 1},
    "content_sha256": "f" * 64,
    "gates": {"has_documents": {"passed": True, "message": "12 documents"}},
}
"""What the first release wrote; nothing of it was renamed since."""


def body(manifest: Manifest = EVERYTHING) -> dict[str, Any]:
    """Return the manifest as read back from JSON."""
    parsed: dict[str, Any] = json.loads(json.dumps(manifest.as_json()))
    return parsed


@pytest.mark.parametrize("manifest", [EVERYTHING, manifest_of(KEY, 3), manifest_of(KEY, 3, rules=None, libraries={})])
def test_what_is_written_is_read_back(manifest: Manifest) -> None:
    assert Manifest.from_json(KEY, 3, body(manifest)) == manifest


def test_it_is_written_in_the_words_that_other_programs_read() -> None:
    written = body()
    assert written["format"] == 3
    assert written["tables"]["index"] == {"name": "index", "version": 3}
    assert written["counts"] == {"documents": 3, "chunks": 9}
    assert written["languages"] == {"en": 3}
    assert written["model"] == {"name": "by-hand", "fingerprint": "f" * 32, "dimension": 8}
    assert written["gates"] == {"has_documents": {"passed": True, "message": "3 documents"}}
    assert written["created_at"] == "2026-11-21T08:30:15.000123+00:00"


def test_what_is_not_known_is_left_out() -> None:
    written = body(manifest_of(KEY, 3, rules=None, libraries={}))
    assert {"rules", "libraries", "scores", "gates", "forced", "account", "pruned_at"}.isdisjoint(written)
    assert "version" not in body(manifest_of(KEY, 0))


def test_a_manifest_of_a_format_without_an_account_is_given_back_as_it_was() -> None:
    earlier = {name: value for name, value in body().items() if name != "account"} | {"format": 2}
    manifest = Manifest.from_json(KEY, 3, earlier)
    assert manifest.account is None
    assert body(manifest) == earlier


def test_a_manifest_of_the_first_release_is_read_and_given_back_as_it_was() -> None:
    manifest = Manifest.from_json(KEY, 1, FIRST_RELEASE)
    assert (manifest.format, manifest.rules, manifest.libraries, manifest.scores) == (1, None, {}, {})
    assert manifest.tables["index"] == TablePin("index_0123456789abcdef", 7)
    assert manifest.model == EmbeddingModel("all-MiniLM-L6-v2", "0123456789abcdef" * 2, 384)
    assert manifest.counts == Counts(12, 34)
    assert body(manifest) == FIRST_RELEASE


def without(*names: str) -> dict[str, Any]:
    """Return the manifest as JSON, without one field, given by its path."""
    changed = body()
    inner = changed
    for name in names[:-1]:
        inner = inner[name]
    del inner[names[-1]]
    return changed


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([], "it is a list, not an object"),
        (None, "it is null, not an object"),
        (without("run_id"), "run_id is missing"),
        (without("tables", "chunks"), "tables.chunks is missing"),
        (without("tables", "chunks", "version"), "tables.chunks.version is missing"),
        (without("counts", "chunks"), "counts.chunks is missing"),
        (body() | {"counts": {"documents": -1, "chunks": 9}}, "counts.documents is -1, less than 0"),
        (body() | {"counts": {"documents": True, "chunks": 9}}, "counts.documents is true or false, not an integer"),
        (body() | {"created_at": "yesterday"}, "created_at is 'yesterday', not a time"),
        (body() | {"created_at": "2026-11-21T08:00:00"}, "a time without its zone"),
        (body() | {"model": "minilm"}, "model is a string, not an object"),
        (body() | {"spec": {"sources": 7}}, "spec.sources is an integer, not a string"),
        (body() | {"scores": {"mrr": "good"}}, "scores.mrr is a string, not a number"),
        (body() | {"rules": {"clean": {"focus": []}}}, "rules.clean.focus is a list, not a plain value"),
        (body() | {"gates": {"not_shrunk": {"passed": 1, "message": ""}}}, "gates.not_shrunk.passed is an integer"),
        (body() | {"forced": ["a", 1]}, "forced is not a list of strings"),
        (body() | {"account": body()["account"] | {"known": 7}}, "account.known is 7, not 6"),
        (body() | {"kb": "globex/docs"}, "kb is 'globex/docs', not 'acme/docs'"),
        (body() | {"version": 4}, "version is 4, not 3"),
        (body() | {"format": 4}, "format is 4; this release reads formats 1 to 3"),
        (body() | {"format": 0}, "format is 0"),
        (body() | {"colour": "blue"}, "colour is not a field that this release knows"),
        (body() | {"tables": body()["tables"] | {"words": {}}}, "tables.words is not a field"),
    ],
    ids=lambda value: value[:40].replace(" ", "_") if isinstance(value, str) else "",
)
def test_an_invalid_manifest_is_an_error_that_names_kb_version_and_field(value: object, problem: str) -> None:
    with pytest.raises(InvalidManifest) as raised:
        Manifest.from_json(KEY, 3, value)
    assert problem in raised.value.problem
    assert (raised.value.kb, raised.value.version) == (KEY, 3)
    assert str(raised.value).startswith("acme/docs: the manifest of version 3 is not valid: ")
    assert "kb rollback acme/docs" in str(raised.value)


def test_the_tables_made_again_under_the_same_number_are_other_data() -> None:
    again = manifest_of(KEY, 3, tables={**EVERYTHING.tables, "index": TablePin("index", 9)})
    assert EVERYTHING.data_identity != again.data_identity
    assert EVERYTHING.data_identity == manifest_of(KEY, 3).data_identity
    assert manifest_of(KbKey("globex", "docs"), 3).data_identity != manifest_of(KEY, 3).data_identity
    assert len({EVERYTHING.data_identity, again.data_identity}) == 2, "it can be the key of a cache"


def test_a_candidate_gets_its_number_and_keeps_all_else() -> None:
    assert manifest_of(KEY, 0, run_id="run").numbered(7) == manifest_of(
        KEY, 7, run_id="run", tables=manifest_of(KEY, 0).tables, content=manifest_of(KEY, 0).content
    )


@pytest.fixture
def paths(tmp_path: Path) -> KbPaths:
    return KbPaths(tmp_path, KEY)


def test_the_file_beside_the_data_is_the_manifest(paths: KbPaths) -> None:
    write_manifest(paths, EVERYTHING)
    write_manifest(paths, manifest_of(KEY, 12))
    assert manifest_path(paths, 3).name == "000003.json"
    assert read_manifest(paths, 3) == EVERYTHING
    assert manifest_numbers(paths) == {3, 12}


def test_a_file_of_the_first_release_is_read(paths: KbPaths) -> None:
    paths.versions.mkdir(parents=True)
    manifest_path(paths, 1).write_text(json.dumps(FIRST_RELEASE, indent=1, sort_keys=True))
    assert read_manifest(paths, 1) == Manifest.from_json(KEY, 1, FIRST_RELEASE)


@pytest.mark.parametrize(
    "spoil",
    [
        Path.unlink,
        lambda path: path.write_text("{"),
        lambda path: path.write_bytes(b"\xff"),
        lambda path: path.write_text("[]"),
    ],
    ids=["missing", "half", "no text", "no object"],
)
def test_a_file_that_cannot_be_read_is_an_invalid_manifest(paths: KbPaths, spoil: Callable[[Path], object]) -> None:
    write_manifest(paths, EVERYTHING)
    spoil(manifest_path(paths, 3))
    with pytest.raises(InvalidManifest, match="acme/docs: the manifest of version 3"):
        read_manifest(paths, 3)


def test_other_files_beside_the_manifests_are_none(paths: KbPaths) -> None:
    write_manifest(paths, EVERYTHING)
    (paths.versions / "notes.json").write_text("{}")
    (paths.versions / ".000004.json.1.tmp").write_text("{}")
    assert manifest_numbers(paths) == {3}
