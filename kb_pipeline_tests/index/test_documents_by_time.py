"""Documents by when their bytes were fetched: whole, in order, a page at a time."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from kb_pipeline.errors import UnknownDocument, UsageError
from kb_pipeline.index.documents_by_time import page_by_time
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.model import document_id
from kb_pipeline_tests.index.fruit import TEXTS, Fruit


@pytest.fixture
def version(tmp_path: Path) -> VersionReader:
    fruit = Fruit(tmp_path)
    fruit.put(TEXTS)
    for hour, key in enumerate(TEXTS):
        row = {"document_id": document_id("site", key), "fetched_at": datetime(2026, 1, 1, hour // 2, tzinfo=UTC)}
        schema = pa.schema([fruit.documents.schema.field(name) for name in row])
        fruit.documents.upsert(pa.Table.from_pylist([row], schema=schema))
    return fruit.reader(fruit.candidate().manifest)


@pytest.mark.parametrize("newest_first", [True, False])
def test_pages_follow_one_another_and_lead_back(version: VersionReader, newest_first: bool) -> None:
    whole = page_by_time(version, None, None, 100, newest_first)
    assert (len(whole.documents), whole.has_more) == (len(TEXTS), False)
    order = [(each.fetched_at, each.document_id) for each in whole.documents]
    assert order == sorted(order, reverse=newest_first)
    for number, each in enumerate(whole.documents):
        after = page_by_time(version, each.document_id, None, 2, newest_first)
        assert after.documents == whole.documents[number + 1 : number + 3]
        before = page_by_time(version, None, each.document_id, 2, newest_first)
        assert before.documents == whole.documents[max(0, number - 2) : number]
        assert (after.has_more, before.has_more) == (number + 3 < len(TEXTS), number > 2)


def test_the_size_is_that_of_the_text(version: VersionReader) -> None:
    sizes = {each.key: each.text_bytes for each in page_by_time(version, None, None, 9, True).documents}
    assert sizes == {key: len(text.encode()) for key, (_, text) in TEXTS.items()}


def test_what_cannot_be_is_refused(version: VersionReader) -> None:
    with pytest.raises(UnknownDocument):
        page_by_time(version, "0" * 32, None, 2, True)
    with pytest.raises(UsageError):
        page_by_time(version, None, None, 0, True)
