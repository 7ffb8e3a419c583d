"""A version opened for reading: pinned, shared by threads, closed once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from kb_pipeline.errors import DamagedStore
from kb_pipeline.index.documents import list_documents, read_document
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.index.search import Mode, search_version
from kb_pipeline.store.manifest import TablePin
from kb_pipeline.store.stage_tables import ROLES
from kb_pipeline_tests.index.fruit import vector_of
from kb_pipeline_tests.index.orchard import Orchard

MODES: tuple[Mode, ...] = ("hybrid", "vector", "keyword")
THREADS, ROUNDS = 16, 6


@pytest.fixture
def orchard(tmp_path: Path) -> Orchard:
    kb = Orchard(tmp_path)
    for key in ("/apples", "/pears", "/plums"):
        kb.grow(key, f"First of {key}.", f"Second of {key}.")
    kb.publish()
    return kb


def answers(version: VersionReader) -> list[list[tuple[str, float]]]:
    hits = [search_version(version, "second pears", vector_of, mode=mode) for mode in MODES]
    return [[(hit.chunk_id, hit.score) for hit in each] for each in hits]


def test_each_table_is_opened_once_at_its_pinned_version(orchard: Orchard) -> None:
    version = orchard.version(1)
    for role in ROLES:
        assert version.table(role) is version.table(role)
        assert version.table(role).version == version.manifest.tables[role].version
    assert (str(version.key), version.number) == ("acme/fruit", 1)
    assert version.indexed_columns == {"context", "words"}


def test_threads_that_share_a_reader_get_what_one_gets_while_the_next_version_is_published(orchard: Orchard) -> None:
    version = orchard.version(1)
    alone = answers(version)
    text = read_document(version, "/pears").markdown

    def ask(number: int) -> bool:
        same = all(answers(version) == alone for _ in range(ROUNDS))
        return same and read_document(version, "/pears").markdown == text

    with ThreadPoolExecutor(THREADS) as pool:
        asked = [pool.submit(ask, number) for number in range(THREADS)]
        orchard.grow("/pears", "Pears are otherwise now, in a second edition.")
        orchard.remove(["/plums"])
        orchard.publish()
        assert all(each.result() for each in asked)
    assert answers(orchard.version(2)) != alone
    assert [document.key for document in list_documents(orchard.version(2))] == ["/apples", "/pears"]


def test_a_closed_reader_cannot_be_used_and_others_can(orchard: Orchard) -> None:
    other = orchard.version(1)
    with orchard.version(1) as version:
        table = version.table("index")
        assert table.count() == 6
    with pytest.raises(ValueError, match="acme/fruit: version 1 is closed"):
        version.table("index")
    with pytest.raises(RuntimeError, match="closed"):
        table.count()
    version.close()
    assert other.table("index").count() == 6


def test_a_version_whose_table_is_gone_is_a_damaged_store(orchard: Orchard) -> None:
    manifest = orchard.manifests[0]
    gone = replace(manifest, tables={**manifest.tables, "index": TablePin(manifest.tables["index"].name, 999)})
    version = VersionReader(orchard.store, gone)
    with pytest.raises(DamagedStore):
        search_version(version, "pears", vector_of)
    assert len(list(list_documents(version))) == 3, "the other tables can be read"


def test_a_candidate_has_no_number_and_can_be_read(orchard: Orchard) -> None:
    orchard.grow("/quinces", "Quinces are cooked.")
    version = orchard.reader(orchard.candidate(orchard.manifests[0]).manifest)
    assert version.number == 0
    assert [hit.key for hit in search_version(version, "cooked", vector_of, mode="keyword")] == ["/quinces"]
