"""Known items: how documents are asked for in their own words, and what a fall of the answers holds back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from kb_pipeline.chunk.context import embedding_text
from kb_pipeline.chunk.refresh import refresh_chunks
from kb_pipeline.chunk.rules import ChunkingRules
from kb_pipeline.clean.refresh import documents_schema
from kb_pipeline.embed import open_embedder
from kb_pipeline.embed.protocol import Embedder
from kb_pipeline.embed.refresh import refresh_vectors, vectors_table
from kb_pipeline.embed.tokenizer import open_tokenizer
from kb_pipeline.errors import UnknownModel
from kb_pipeline.fetch.fetch_state import pages_schema
from kb_pipeline.index.search import Hit
from kb_pipeline.model import EmbeddingModel, KbKey, digest, document_id
from kb_pipeline.publish.candidate import Candidate, build_candidate, pin_candidate
from kb_pipeline.publish.integrity_gates import ChunkText, Gate
from kb_pipeline.publish.probe_queries import KnownItem, Score, known_items, score_items, terms_of
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.manifest import Manifest
from kb_pipeline.store.paths import KbPaths
from kb_pipeline.store.stage_tables import DOCUMENTS, PAGES
from kb_pipeline_tests.index.fruit import RECIPE, Fruit, spec

MINILM, E5 = "all-MiniLM-L6-v2", "multilingual-e5-small"
RULES = ChunkingRules(max_tokens=128, overlap_tokens=16)
ASPECTS = {
    "planting": "Young {name} trees go into the ground in {month}, {n} feet apart. Water the roots with {n} cans a "
    "week, and tie the stem to a post of {wood} until the first storm of {month} is over.",
    "pruning": "Cut back every {name} branch that crosses another before {month} ends. A saw with {n} teeth an inch "
    "leaves a clean wound; seal it with {wood} tar so that no rot creeps in.",
    "harvest": "Pickers fill {n} crates of {name} an hour when the dew has dried in {month}. Twist the stalk gently; "
    "bruised fruit goes to the press beneath the old {wood} shed.",
    "storage": "Lay {name} fruit on {wood} shelves without touching. At {n} degrees they keep past {month}, unless "
    "mice find the cellar door open.",
    "trade": "A merchant from the coast pays {n} coins a barrel of {name} at the {month} fair. Barrels of {wood} fetch "
    "more since they can be sold again.",
}
FRUITS = {
    "apple": ("March", 11, "oak"), "pear": ("April", 23, "beech"), "plum": ("May", 37, "ash"),
    "quince": ("June", 41, "elm"), "cherry": ("July", 53, "pine"), "medlar": ("August", 67, "larch"),
    "apricot": ("October", 79, "maple"), "mulberry": ("November", 83, "birch"),
}  # fmt: skip
Pages = Mapping[str, tuple[str, str, str]]


def handbook() -> dict[str, tuple[str, str, str]]:
    """Forty pages: key to title, language, Markdown."""
    return {
        f"http://x.example/{fruit}/{aspect}": (
            f"{fruit.title()} {aspect}", "en",
            f"# {fruit.title()} {aspect}\n\n" + text.format(name=fruit, month=month, n=n, wood=wood),
        )
        for fruit, (month, n, wood) in FRUITS.items()
        for aspect, text in ASPECTS.items()
    }  # fmt: skip


def login_page(key: str) -> tuple[str, str, str]:
    """Return a login page with status 200, as some sites send: it names the URL and is different each time."""
    text = f"You must sign in to view {key}. Your session has expired; enter name and password. Request {digest(key)}."
    return "Sign in", "en", f"# Sign in\n\n{text}"


@pytest.fixture(scope="module")
def open_model(models_dir: Path) -> Callable[[str], Embedder]:
    return cache(lambda name: open_embedder(name, cache_dir=models_dir))


class Library:
    """A KB whose documents are written directly; chunks, vectors and index are made by the stages themselves."""

    def __init__(self, data_dir: Path, open_model: Callable[[str], Embedder]) -> None:
        self.store, self.open_model = KbStore(KbPaths(data_dir, KbKey("acme", "fruit"))), open_model
        self.pages = self.store.tables.open_or_create(PAGES, pages_schema())
        self.documents = self.store.tables.open_or_create(DOCUMENTS, documents_schema())
        self.forgotten: set[str] = set()

    def put(self, pages: Pages) -> None:
        rows = [
            {"document_id": document_id("site", key), "source": "site", "key": key, "title": title,
             "language": language, "outcome": "document", "markdown": markdown,
             "document_hash": digest(title, language, markdown)}
            for key, (title, language, markdown) in pages.items()
        ]  # fmt: skip
        fetched = [
            {"page_id": row["document_id"], "source": "site", "key": row["key"], "outcome": "fetched",
             "sha256": row["document_hash"]}
            for row in rows
        ]  # fmt: skip
        self.pages.upsert(pa.Table.from_pylist(fetched, schema=pages_schema()))
        self.documents.upsert(pa.Table.from_pylist(rows, schema=documents_schema()))

    def build(self, live: Manifest | None = None, model: str = MINILM, rules: ChunkingRules = RULES) -> Candidate:
        self._embedder = self.open_model(model)
        described = EmbeddingModel(model, self._embedder.fingerprint, self._embedder.dimension)
        refresh_chunks(self.store, rules, open_tokenizer, quiet)
        refresh_vectors(self.store, described, lambda: self._embedder, embedding_text, quiet)
        vectors = vectors_table(self.store, described)
        return build_candidate(
            self.store, spec("{max_shrink: 1}"), described, vectors, live, self, RECIPE, "run", quiet
        )

    def publish(self, pages: Pages, **options: Any) -> Manifest:
        self.put(pages)
        return pin_candidate(self.store, self.build(**options).manifest, 1, None)

    def embed_query(self, text: str) -> np.ndarray:
        return self._embedder.embed_query(text)

    def embed_query_with(self, model: EmbeddingModel, text: str) -> np.ndarray:
        if model.name in self.forgotten:
            raise UnknownModel(model.name, "it was removed")
        return self.open_model(model.name).embed_query(text)

    def embed_chunks(self, chunks: Sequence[ChunkText]) -> np.ndarray:
        return self._embedder.embed_passages(
            [embedding_text(chunk.title, chunk.headings, chunk.text) for chunk in chunks]
        )


def quiet(done: int, total: int | None) -> None:
    """Progress that nobody reads."""


@pytest.fixture
def library(tmp_path: Path, open_model: Callable[[str], Embedder]) -> Library:
    return Library(tmp_path, open_model)


def retrieval(candidate: Candidate) -> Gate:
    return next(gate for gate in candidate.gates if gate.name == "retrieval_kept")


def hit(document: str, title: str = "", text: str = "") -> Hit:
    return Hit(1, 1.0, f"/{document}", title, (), text, "en", document, "c", 0, len(text))


def item(document: str, title: str = "", *terms: str) -> KnownItem:
    return KnownItem(document, f"/{document}", title, "query", frozenset(terms))


def test_a_third_of_the_pages_turned_into_login_pages_is_held(library: Library) -> None:
    live = library.publish(handbook())
    assert live.scores["known_item_recall_at_5"] >= 0.95
    library.put({key: login_page(key) for key in list(handbook())[::3]})
    candidate = library.build(live)
    gate = retrieval(candidate)
    assert (candidate.status, gate.passed) == ("held", False), gate.message
    assert "found later or not at all: http://x.example/" in gate.message
    scores = candidate.manifest.scores
    assert scores["known_item_recall_at_5"] < scores["live_known_item_recall_at_5"] - 0.1


def test_light_edits_rechunking_and_a_page_rewritten_under_its_title_pass(library: Library) -> None:
    live = library.publish(handbook())
    edited = {key: (title, "en", text + " So says the book.") for key, (title, _, text) in list(handbook().items())[:2]}
    rewritten = {key: (title, "en", f"# {title}\n\nThis chapter is new.") for key, (title, _, _) in
                 list(handbook().items())[20:22]}  # fmt: skip
    library.put(edited | rewritten)
    for rules in (RULES, ChunkingRules("sliding_window", 64, 0), ChunkingRules("by_heading", 512, 64)):
        assert retrieval(library.build(live, rules=rules)).passed


def test_vectors_of_another_model_ask_the_live_version_with_its_own(library: Library) -> None:
    live = library.publish(handbook())
    scores = library.build(live, model=E5).manifest.scores
    assert scores["live_known_item_mrr"] == live.scores["known_item_mrr"]
    library.forgotten.add(MINILM)
    gate = retrieval(library.build(live, model=E5))
    assert gate.passed
    assert "not here any more" in gate.message


def test_a_first_version_is_scored_and_never_held(tmp_path: Path) -> None:
    kb = Fruit(tmp_path)
    kb.put({f"/{n}": ("en", "The same words on every page of this site.") for n in range(3)})
    candidate = kb.candidate()
    assert candidate.status == "candidate"
    assert set(candidate.manifest.scores) == {"known_item_recall_at_5", "known_item_mrr"}


def test_items_are_the_same_from_version_to_version_and_only_of_what_is_still_there(tmp_path: Path) -> None:
    kb = Fruit(tmp_path)
    kb.put({f"/{n}": ("en", f"Tree number {n} bears pears of the sort {digest(str(n))}.") for n in range(9)})
    live = pin_candidate(kb.store, kb.candidate().manifest, 1, None)
    ids = [document_id("site", f"/{n}") for n in range(9)]
    taken = [item.document_id for item in known_items(kb.reader(live), ids, count=4)]
    assert taken == sorted(ids)[:4]
    assert [item.document_id for item in known_items(kb.reader(live), ids[:2])] == sorted(ids[:2])


def questions(tmp_path: Path, pages: Pages) -> Iterator[KnownItem]:
    """Return the probe queries, by key, of pages written directly to the tables."""
    kb = Fruit(tmp_path)
    kb.put({key: (language, text) for key, (_, language, text) in pages.items()})
    kb.chunks.upsert(_titled(kb, pages))
    titles = [{"document_id": document_id("site", key), "title": title} for key, (title, _, _) in pages.items()]
    kb.documents.upsert(pa.Table.from_pylist(titles))
    version = kb.reader(kb.candidate().manifest)
    items = known_items(version, [document_id("site", key) for key in pages])
    yield from sorted(items, key=lambda item: item.key)


def _titled(kb: Fruit, pages: Pages) -> pa.Table:
    rows = kb.chunks.head(["chunk_id", "key"], 100).to_pylist()
    return pa.Table.from_pylist([{"chunk_id": row["chunk_id"], "title": pages[row["key"]][0]} for row in rows])


def test_a_question_is_a_distinctive_sentence_below_a_title_that_no_other_page_has(tmp_path: Path) -> None:
    common = "This page is part of the handbook of our orchard. "
    pages = {
        "/a": ("Orchard", "en", f"# Orchard\n\n{common}Codling moths lay eggs on young leaves."),
        "/b": ("Orchard", "en", f"# Orchard\n\n{common}Wasps drill holes into overripe fruit."),
        "/c": ("Pests", "en", f"# Pests\n\n{common}Voles gnaw at roots beneath deep snow."),
        "/d": ("Frost", "en", f"{common}```\nvoid f(int[] x) {{ return; }}\n```"),
    }
    a, b, c, _ = questions(tmp_path, pages)
    assert [a.query, b.query] == ["Codling moths lay eggs on young leaves.", "Wasps drill holes into overripe fruit."]
    assert c.query == "Pests. Voles gnaw at roots beneath deep snow."
    assert (a.title, c.title) == ("", "Pests")


def test_a_question_in_a_script_without_spaces_is_a_sentence_of_it(tmp_path: Path) -> None:
    pages = {
        "/tenki": ("天気", "ja", "このページは手引きの一部です。明日の午後は北風が強く吹くでしょう。"),
        "/ringo": ("林檎", "ja", "このページは手引きの一部です。りんごは涼しい地下室で数か月保存できます。"),
        "/nashi": ("梨", "ja", "このページは手引きの一部です。梨は収穫した後に棚の上で熟します。"),
    }
    nashi, ringo, tenki = questions(tmp_path, pages)
    assert nashi.query == "梨. 梨は収穫した後に棚の上で熟します。"
    assert ringo.query.startswith("林檎. りんごは涼しい地下室で")
    assert tenki.query.endswith("明日の午後は北風が強く吹くでしょう。")


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("It's a Pear-tree!", ["it", "s", "a", "pear", "tree"]),
        ("明日の天気", ["明日", "日の", "の天", "天気"]),
        ("ज्ञानकोष हर दो", ["ज्ञानकोष", "हर", "दो"]),
        ("http://x.example/pears", ["http", "x", "example", "pears"]),
        ("第3章", ["第", "3", "章"]),
    ],
)
def test_terms_are_words_or_pairs_of_characters(text: str, terms: list[str]) -> None:
    assert terms_of(text) == terms


def test_a_page_that_only_names_the_address_is_not_the_document() -> None:
    pears = item("pears", "Pears", "ripen", "shelf", "hard")
    assert pears.is_borne_by(hit("pears", "Pears", "All is new here."))
    assert pears.is_borne_by(hit("pears", "The pear", "They ripen on a shelf."))
    assert not pears.is_borne_by(hit("pears", "Sign in", "Sign in to view http://x.example/pears."))
    assert not pears.is_borne_by(hit("plums", "Pears", "ripen shelf hard"))


def test_a_rank_counts_documents_not_chunks() -> None:
    found = [hit("a"), hit("a"), hit("a"), hit("b", "B")]
    assert score_items([item("b", "B")], lambda query: found).ranks == (2,)
    assert score_items([item("c", "C")], lambda query: found).ranks == (None,)


def test_scores_are_recall_at_5_and_reciprocal_rank() -> None:
    score = Score((1, 2, 7, None))
    assert (score.recall, score.mrr) == (0.5, (1 + 1 / 2 + 1 / 7) / 4)
    assert score.missed() == [2, 3]
    assert score.worse_than(Score((1, 1, 8, 9))) == [1, 3]


def test_one_page_that_was_rewritten_never_holds_a_version(tmp_path: Path) -> None:
    kb = Fruit(tmp_path)
    kb.put({f"/{n}": ("en", f"Tree number {n} bears pears of the sort {digest(str(n))}.") for n in range(3)})
    live = pin_candidate(kb.store, kb.candidate().manifest, 1, None)
    kb.put({"/1": ("en", "Nothing of what was written here is left.")})
    assert retrieval(kb.candidate(live)).passed
