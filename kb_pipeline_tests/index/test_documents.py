"""Documents of a version: listed, read with their provenance, and found under the names that lead to them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from kb_pipeline.errors import DamagedStore, UnknownDocument
from kb_pipeline.index.documents import (
    list_documents,
    provenance_of,
    read_document,
    read_raw_bytes,
    read_raw_document,
)
from kb_pipeline.index.search import search_version
from kb_pipeline.model import document_id
from kb_pipeline_tests.index.fruit import vector_of
from kb_pipeline_tests.index.orchard import FETCHED_AT, Orchard


@pytest.fixture
def orchard(tmp_path: Path) -> Orchard:
    """Three documents, one the duplicate of another, and a page that redirects."""
    kb = Orchard(tmp_path)
    kb.grow("/apples", "Apples keep.", "They like the dark.")
    kb.grow("/pears", "Pears ripen.")
    kb.grow("/birnen", "Pears ripen.", duplicate_of="/pears")
    for key, target in (("/old", "/older"), ("/older", "/apples"), ("/round", "/round")):
        page = {"page_id": document_id("site", key), "source": "site", "key": key, "outcome": "redirected"}
        kb.pages.upsert(pa.Table.from_pylist([page | {"redirect_to": target}], schema=kb.pages.schema))
    kb.publish()
    return kb


def test_the_list_says_what_a_reader_sees_and_every_name_that_leads_there(orchard: Orchard) -> None:
    listed = {document.key: document for document in list_documents(orchard.version(1))}
    assert sorted(listed) == ["/apples", "/pears"], "a duplicate is not listed"
    apples, pears = listed["/apples"], listed["/pears"]
    assert (apples.chunks, apples.aliases, apples.fetched_at) == (2, ("/old", "/older"), FETCHED_AT)
    assert (pears.chunks, pears.aliases) == (1, ("/birnen",))
    assert list(apples.as_json()) == [
        "document_id", "source", "key", "title", "language", "sha256", "chunks", "fetched_at", "run_id", "aliases"
    ]  # fmt: skip
    assert (apples.as_json()["fetched_at"], apples.as_json()["aliases"]) == (FETCHED_AT.isoformat(), ["/old", "/older"])


def test_a_document_is_read_by_its_key_and_by_those_that_redirect_to_it(orchard: Orchard) -> None:
    version = orchard.version(1)
    document = read_document(version, "/apples")
    assert document.markdown == "Apples keep.\n\nThey like the dark."
    assert (document.version, document.rendered, document.translations, document.consent) == (1, False, {}, None)
    assert read_document(version, "/old") == read_document(version, "/older") == document
    assert read_document(version, "/birnen").duplicate_of == document_id("site", "/pears")
    for key in ("/nowhere", "/round"):
        with pytest.raises(UnknownDocument):
            read_document(version, key)


def test_its_json_has_the_provenance_beside_the_rest(orchard: Orchard) -> None:
    told = read_document(orchard.version(1), "/pears").as_json()
    assert "provenance" not in told
    assert (told["url"], told["content_type"], told["fetched_at"]) == (
        "http://x.example/pears", "text/html", FETCHED_AT.isoformat(),
    )  # fmt: skip
    assert told["model"] == {"name": "by-hand", "fingerprint": "f" * 32, "dimension": 8}
    assert (told["code"]["index"], told["version"], told["key"]) == ("1", 1, "/pears")


def test_the_exact_bytes_are_those_of_the_hash(orchard: Orchard) -> None:
    version = orchard.version(1)
    raw = read_raw_document(version, "/pears")
    assert raw.body == read_raw_bytes(version, "/pears") == b"Pears ripen."
    assert raw.sha256 == hashlib.sha256(raw.body).hexdigest() == read_document(version, "/pears").provenance.sha256


def test_hits_say_where_they_came_from(orchard: Orchard) -> None:
    version = orchard.version(1)
    hits = search_version(version, "dark", vector_of, mode="keyword")
    (origin,) = provenance_of(version, hits)
    assert (origin.start, origin.end) == (hits[0].start, hits[0].end)
    assert origin.document == read_document(version, "/apples").provenance
    assert list(origin.as_json())[:3] == ["start", "end", "url"]
    assert provenance_of(version, []) == []


def test_a_hit_of_a_document_that_is_not_there_is_damage(orchard: Orchard) -> None:
    version = orchard.version(1)
    (hit,) = search_version(version, "dark", vector_of, mode="keyword")
    with pytest.raises(DamagedStore, match="no row of elsewhere"):
        provenance_of(version, [replace(hit, document_id="elsewhere")])


def test_validators_of_newer_bytes_are_not_those_of_the_document(orchard: Orchard) -> None:
    before = read_document(orchard.version(1), "/pears").provenance
    orchard.put_page("/pears", b"newer bytes that no document came of")
    version = orchard.reader(orchard.publish())
    after = read_document(version, "/pears").provenance
    assert (before.etag, after.etag, after.content_type) == (f'"{before.sha256[:8]}"', None, None)
    assert (after.sha256, read_raw_bytes(version, "/pears")) == (before.sha256, b"Pears ripen.")
