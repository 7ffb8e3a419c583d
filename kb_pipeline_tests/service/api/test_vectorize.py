"""`/vectorize` gives what a refresh made of the same text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kb_pipeline.installation import Installation
from kb_pipeline_tests.operations.home import Home
from kb_pipeline_tests.service.serving import DOCS, Client

SHELVES = (f"## Shelf {n}\n\n" + f"Apples of row {n} keep for months. " * 20 for n in range(9))
LONG = "# Cellars\n\n" + "\n\n".join(SHELVES)


def test_a_stored_document_gives_the_chunks_and_vectors_that_are_stored(
    acme: Client, api: Installation, two_tenants: Home
) -> None:
    index = two_tenants.reader(DOCS).table("index").read_columns(["chunk_id", "vector"])
    stored: dict[str, Any] = dict(index.iter_rows())
    for listed in api.kb(DOCS).documents():
        document = api.kb(DOCS).document(listed.key)
        asked = {"kb": "acme.docs", "text": document.markdown, "title": document.title}
        made = acme.post("/vectorize", json=asked).json()
        assert (made["model"], made["dimension"]) == ("all-MiniLM-L6-v2", 384)
        expected = api.kb(DOCS).chunks(document.document_id)
        assert [(each["start"], each["end"], each["text"]) for each in made["chunks"]] == [
            (chunk.start, chunk.end, chunk.text) for chunk in expected
        ]
        for each, chunk in zip(made["chunks"], expected, strict=True):
            assert np.allclose(each["vector"], stored[chunk.chunk_id], atol=1e-2)


def test_rules_and_model_may_be_given(acme: Client) -> None:
    small, large = (
        acme.post("/vectorize", json={"text": LONG, "chunking": {"max_tokens": size}, "model": "all-MiniLM-L6-v2"})
        for size in (64, 512)
    )
    assert len(small.json()["chunks"]) > len(large.json()["chunks"]) > 1
    assert all(each["tokens"] <= 64 for each in small.json()["chunks"])
    assert small.json()["chunking"]["max_tokens"] == 64


@pytest.mark.parametrize("asked", [
    {"text": ""}, {"text": "a" * 200_001}, {"text": "a", "kb": "acme.docs", "model": "all-MiniLM-L6-v2"},
    {"text": "a", "chunking": {"max_tokens": 64, "overlap_tokens": 60}}, {"text": "a", "model": "none-such"},
    {"text": "a", "chunking": {"strategy": "by_page"}},
], ids=lambda asked: str(asked)[:80])  # fmt: skip
def test_what_cannot_be_is_refused(acme: Client, asked: dict[str, Any]) -> None:
    assert acme.post("/vectorize", json=asked).status_code == 422


def test_white_space_has_no_chunks_and_another_tenants_kb_no_rules(acme: Client, globex: Client) -> None:
    assert acme.post("/vectorize", json={"text": " \n", "kb": "acme.docs"}).json()["chunks"] == []
    assert globex.post("/vectorize", json={"text": "a", "kb": "acme.docs"}).status_code == 404


def test_a_search_may_name_its_kb_in_the_body(acme: Client) -> None:
    asked = {"query": "apples", "k": 2}
    named = acme.post("/search", json=asked | {"kb": "acme.docs"}).json()
    assert named == acme.post("/kbs/acme.docs/search", json=asked).json()
    assert acme.post("/search", json=asked | {"kb": "globex.docs"}).status_code == 404
