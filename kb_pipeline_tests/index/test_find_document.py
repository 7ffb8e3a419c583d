"""Finding the document that a person means."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from kb_pipeline.errors import AmbiguousDocument, UnknownDocument
from kb_pipeline.index.find_document import find_document
from kb_pipeline.model import document_id
from kb_pipeline_tests.index.orchard import Orchard

KEYS = (
    "https://www.Example.com/guide/Apples",
    "https://www.Example.com/guide/pears/",
    "https://www.Example.com/old/pears",
    "https://www.Example.com/caf%C3%A9",
)


@pytest.fixture
def find(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Find in a version of a few documents, one of which a page redirects to."""
    kb = Orchard(tmp_path)
    for key in KEYS:
        kb.grow(key, "Fruit keeps.")
    kb.grow("https://www.Example.com/birnen", "Fruit keeps.", duplicate_of=KEYS[1])
    moved = "https://www.Example.com/moved"
    page = {"page_id": document_id("site", moved), "source": "site", "key": moved, "outcome": "redirected"}
    kb.pages.upsert(pa.Table.from_pylist([page | {"redirect_to": KEYS[0]}], schema=kb.pages.schema))
    kb.publish()
    version = kb.version(1)
    with version:
        yield lambda name: find_document(version, name)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        (KEYS[0], 0),
        ("https://www.Example.com/moved", 0),
        ("http://example.com/guide/apples/", 0),
        ("example.com/guide/pears", 1),
        ("/guide/apples", 0),
        ("apples", 0),
        ("guide/pears", 1),
        ("old", 2),
        ("café", 3),
    ],
)
def test_a_document_is_found_by_what_only_it_has(find: Callable[[str], str], name: str, number: int) -> None:
    assert find(name) == KEYS[number]


def test_a_duplicate_is_found_by_its_own_key_alone(find: Callable[[str], str]) -> None:
    assert find("https://www.Example.com/birnen") == "https://www.Example.com/birnen"
    with pytest.raises(UnknownDocument):
        find("birnen")


def test_a_name_that_several_have_lists_them(find: Callable[[str], str]) -> None:
    with pytest.raises(AmbiguousDocument) as caught:
        find("pears")
    assert caught.value.keys == (KEYS[1], KEYS[2])
    assert all(key in str(caught.value) for key in caught.value.keys)


def test_a_name_that_none_has_tells_what_is_like_it(find: Callable[[str], str]) -> None:
    with pytest.raises(UnknownDocument, match=r"did you mean https://www\.Example\.com/guide/Apples") as caught:
        find("https://www.Example.com/guide/Aples")
    assert caught.value.near[0] == KEYS[0]
    with pytest.raises(UnknownDocument):
        find(" ")
