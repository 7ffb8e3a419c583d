"""The gates that look at a version's tables, at the live version and at rolled-back ones, over vectors made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from kb_pipeline.chunk.refresh import chunks_schema
from kb_pipeline.errors import GateFailed
from kb_pipeline.fetch.fetch_state import pages_schema
from kb_pipeline.model import digest
from kb_pipeline.publish.candidate import Candidate, build_candidate, pin_candidate, verify_version
from kb_pipeline.publish.integrity_gates import GATES, Gate
from kb_pipeline.store.manifest import Counts, Manifest, TablePin, write_manifest
from kb_pipeline.store.stage_tables import DOCUMENTS
from kb_pipeline_tests.index.fruit import MODEL, RECIPE, TEXTS, ByHand, Fruit, spec, vector_of

LONG = "In its {n}th year the tree by gate {n} bore {n} baskets of fruit, more than any beside it. " * 8


def pinned(kb: Fruit, number: int = 1, live: Manifest | None = None, publish: str = "{}") -> Manifest:
    return pin_candidate(kb.store, kb.candidate(live, publish).manifest, number, live)


def gate(candidate: Candidate, name: str) -> Gate:
    return next(gate for gate in candidate.gates if gate.name == name)


def rebuilt(kb: Fruit, live: Manifest, *rolled_back: Manifest) -> Candidate:
    rules = spec("{max_shrink: 1, max_drop: 1}")
    return build_candidate(
        kb.store, rules, MODEL, kb.vectors, live, ByHand(), RECIPE, "run", lambda done, total: None, rolled_back
    )


@pytest.fixture
def fruit(tmp_path: Path) -> Fruit:
    kb = Fruit(tmp_path)
    kb.put(TEXTS)
    return kb


@pytest.fixture
def grove(tmp_path: Path) -> Fruit:
    kb = Fruit(tmp_path)
    kb.put({f"/tree/{n}": ("en", LONG.format(n=n)) for n in range(12)})
    return kb


def test_every_declared_gate_is_run_and_no_other(fruit: Fruit) -> None:
    assert [gate.name for gate in fruit.candidate().gates] == list(GATES)


def test_a_sound_version_is_verified(fruit: Fruit) -> None:
    verify_version(fruit.store, pinned(fruit))


def test_documents_hollowed_out_to_a_line_are_held(grove: Fruit) -> None:
    live = pinned(grove)
    grove.put({f"/tree/{n}": ("en", f"Tree {n}: see the keeper.") for n in range(4)})
    shrunk = gate(grove.candidate(live), "not_shrunk")
    assert (shrunk.passed, shrunk.holds, shrunk.measured["vanished_share"]) == (False, True, 0.0)
    assert shrunk.message == "26% of the text of documents that stay vanished; allowed are 20%"


def test_a_version_held_since_cleaning_changed_says_so_and_not_that_the_site_did(grove: Fruit) -> None:
    live = pinned(grove)
    grove.put({f"/tree/{n}": ("en", f"Tree {n}: see the keeper.") for n in range(4)})  # of the same bytes
    earlier = replace(live, code={**live.code, "clean": "0"})
    message = gate(grove.candidate(earlier), "not_shrunk").message
    assert "it is cleaning that changed, not the site: 12 of 12 pages have the bytes of before, 4 of them" in message
    assert "(cleaning 1)" in message


def test_one_long_page_cut_by_its_owner_is_no_shrinking(fruit: Fruit) -> None:
    fruit.put({"/history": ("en", LONG.format(n=1) * 5)})
    live = pinned(fruit)
    fruit.put({"/history": ("en", "The history of the orchard is told elsewhere.")})
    assert gate(fruit.candidate(live), "not_shrunk").passed


def test_new_documents_do_not_make_up_for_hollowed_ones(grove: Fruit) -> None:
    live = pinned(grove)
    grove.put({f"/tree/{n}": ("en", f"Tree {n}: see the keeper.") for n in range(4)})
    grove.put({f"/bush/{n}": ("en", LONG.format(n=100 + n)) for n in range(12)})
    assert not gate(grove.candidate(live), "not_shrunk").passed


def test_overlapping_chunks_of_the_same_text_are_no_shrinking(grove: Fruit) -> None:
    """What is counted is the text that chunks cover, not their lengths."""
    rows = grove.chunks.head(chunks_schema().names, 100).to_pylist()
    halves = [
        row | {"chunk_id": digest(row["chunk_id"], str(n)), "start": start, "end": end, "text": row["text"][start:end],
               "words": row["text"][start:end], "text_hash": digest(row["text"][start:end]), "ordinal": n}
        for row in rows
        for n, (start, end) in enumerate([(0, row["end"] * 2 // 3), (row["end"] // 3, row["end"])])
    ]  # fmt: skip
    whole = pa.Table.from_pylist(rows, schema=chunks_schema())
    grove.chunks.replace_group(
        pa.Table.from_pylist(halves, schema=chunks_schema()),
        "document_id",
        whole["document_id"].to_pylist(),
    )
    for text in {half["text"] for half in halves}:
        grove.put_vector(text, vector_of(text))
    live = pinned(grove)
    ids = whole["document_id"].to_pylist()
    grove.chunks.replace_group(whole, "document_id", ids)
    candidate = grove.candidate(live)
    assert gate(candidate, "not_shrunk").measured["vanished_text_share"] == 0


def test_golden_queries_that_the_live_version_answered_hold_a_candidate_that_does_not(fruit: Fruit) -> None:
    golden = "{max_shrink: 1, min_recall: 0, queries: [{query: cellar, text: cellar}, {query: Birnen, key: /birnen}]}"
    live = pinned(fruit, publish=golden)
    assert live.scores["golden_recall_at_5"] == 1
    fruit.remove(["/apples"])
    candidate = fruit.candidate(live, golden)
    missed = gate(candidate, "golden_queries")
    assert (missed.passed, missed.holds) == (False, True)
    assert "recall@5 0.50 (live 1.00)" in missed.message
    assert "missed: cellar" in missed.message
    assert candidate.manifest.scores["live_golden_recall_at_5"] == 1
    assert gate(fruit.candidate(live, golden.replace("{max", "{max_drop: 1, max", 1)), "golden_queries").passed


def test_an_index_table_of_another_model_fails_the_candidate(fruit: Fruit) -> None:
    live = pinned(fruit)
    body = replace(live, model=replace(live.model, fingerprint="e" * 32))
    write_manifest(fruit.store.paths, body)
    with pytest.raises(GateFailed, match="model_matches: table is index_ffffffffffffffff, not index_eeee"):
        verify_version(fruit.store, body)


def test_a_vector_column_of_another_dimension_is_refused(fruit: Fruit) -> None:
    live = pinned(fruit)
    body = replace(live, model=replace(live.model, dimension=384))
    write_manifest(fruit.store.paths, body)
    with pytest.raises(GateFailed, match="dimension of the vectors is 8, not 384"):
        verify_version(fruit.store, body)


def test_what_is_written_after_a_version_was_pinned_is_not_part_of_it(fruit: Fruit) -> None:
    live = pinned(fruit)
    fruit.remove(["/pears"])
    fruit.store.tables.open(live.tables["index"].name).delete("key", ["/pears"])
    verify_version(Fruit(fruit.store.paths.data_dir).store, live)


def test_a_data_file_cut_in_half_is_refused(fruit: Fruit) -> None:
    live = pinned(fruit)
    victim = max(fruit.store.paths.lance.glob(f"{DOCUMENTS}.lance/data/*.lance"), key=lambda p: p.stat().st_size)
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    with pytest.raises(GateFailed):
        verify_version(Fruit(fruit.store.paths.data_dir).store, live)


def test_a_missing_data_file_is_refused(fruit: Fruit) -> None:
    live = pinned(fruit)
    next(fruit.store.paths.lance.glob("index_*.lance/data/*.lance")).unlink()
    with pytest.raises(GateFailed, match=r"cannot be read: .*Not found"):
        verify_version(Fruit(fruit.store.paths.data_dir).store, live)


@pytest.mark.parametrize("damage", ["edited", "missing", "half"])
def test_a_manifest_that_is_not_on_disk_as_given_is_refused(fruit: Fruit, damage: str) -> None:
    live = pinned(fruit)
    path = fruit.store.paths.versions / "000001.json"
    body = path.read_text()
    path.write_text(body.replace('"documents": 4', '"documents": 5') if damage == "edited" else body[: len(body) // 2])
    if damage == "missing":
        path.unlink()
    with pytest.raises(GateFailed, match="manifest:"):
        verify_version(fruit.store, live)


def test_a_pin_moved_to_other_contents_is_refused(fruit: Fruit) -> None:
    live = pinned(fruit)
    row = fruit.pages.head(fruit.pages.schema.names, 1)
    fruit.pages.append(row.cast(pages_schema()).to_batches())
    fruit.put({"/pears": ("en", "Pears are picked hard and ripen on a shelf.")})
    other = fruit.candidate(live).manifest.tables
    body = replace(live, tables={**other, "pages": live.tables["pages"]})
    write_manifest(fruit.store.paths, body)
    with pytest.raises(GateFailed, match="content_sha256"):
        verify_version(fruit.store, body)


def test_a_manifest_whose_counts_are_not_those_of_the_tables_is_refused(fruit: Fruit) -> None:
    live = pinned(fruit)
    body = replace(live, content=replace(live.content, counts=Counts(documents=4, chunks=3)))
    write_manifest(fruit.store.paths, body)
    with pytest.raises(GateFailed, match="'chunks_not_in_manifest': 1"):
        verify_version(fruit.store, body)


def test_what_a_rollback_undid_is_held_when_it_would_come_back(fruit: Fruit) -> None:
    first = pinned(fruit)
    fruit.remove(["/apples"])
    fruit.put({"/plums": ("en", "Plums are blue."), "/pears": ("en", "Pears are for sale.")})
    second = pin_candidate(fruit.store, rebuilt(fruit, first).manifest, 2, first)
    candidate = rebuilt(fruit, first, second)
    assert candidate.status == "held"
    assert gate(candidate, "nothing_resurrected").message == (
        "would bring back 3 documents of version 2, which was rolled back: /apples; /pears; /plums"
    )


def test_documents_that_changed_again_since_a_rollback_pass(fruit: Fruit) -> None:
    first = pinned(fruit)
    fruit.put({"/pears": ("en", "Pears are for sale.")})
    second = pin_candidate(fruit.store, rebuilt(fruit, first).manifest, 2, first)
    fruit.put({"/pears": ("en", "Pears ripen on a shelf once they are picked.")})
    assert gate(rebuilt(fruit, first, second), "nothing_resurrected").passed


def test_a_version_that_is_not_kept_any_more_resurrects_nothing(fruit: Fruit) -> None:
    first = pinned(fruit)
    fruit.put({"/pears": ("en", "Pears are for sale.")})
    gone = replace(first, version=2, tables={**first.tables, "documents": TablePin(DOCUMENTS, 999)})
    assert gate(rebuilt(fruit, first, gone), "nothing_resurrected").passed
