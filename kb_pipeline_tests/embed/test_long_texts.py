"""Texts beyond a model's window are embedded whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kb_pipeline.embed import open_embedder
from kb_pipeline.embed.long_texts import MeanPooled
from kb_pipeline.embed.tokenizer import open_tokenizer

MODELS = ["all-MiniLM-L6-v2", "multilingual-e5-small"]
FILLER = "The committee met on Tuesday and talked about the budget for roads and schools. "
ENDING = "Volcanoes erupt when magma rises through cracks in the crust of the earth. "


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "text", [FILLER * 80, "明日の天気は晴れです。" * 200, "x" * 9000, "\ufdfa" * 300, "a_b-c." * 700]
)
def test_every_window_fits_and_together_they_are_the_text(model: str, text: str) -> None:
    tokenizer = open_tokenizer(model)
    (parts,) = tokenizer.windows([text])
    assert "".join(parts) == text
    assert all(tokenizer.overhead + tokenizer.count(part) <= tokenizer.max_tokens for part in parts)


@pytest.mark.parametrize("model", MODELS)
def test_a_text_that_fits_has_the_vector_of_the_model_itself(model: str, models_dir: Path) -> None:
    plain = open_embedder(model, "fp32", models_dir)
    whole = MeanPooled(plain, open_tokenizer(model))
    texts = [FILLER, "", ENDING]
    assert np.array_equal(whole.embed_passages(texts), plain.embed_passages(texts))
    assert np.array_equal(whole.embed_query(ENDING), plain.embed_query(ENDING))


def test_the_end_of_a_long_text_counts_beside_texts_that_fit(models_dir: Path) -> None:
    plain = open_embedder("all-MiniLM-L6-v2", "fp32", models_dir)
    whole = MeanPooled(plain, open_tokenizer(plain.name))
    long = FILLER * 20 + ENDING * 12
    query = whole.embed_query("Why does a volcano erupt?")
    before, at_the_end, after = whole.embed_passages([FILLER, long, ENDING]) @ query
    assert before < at_the_end < after
    assert at_the_end > plain.embed_passages([long])[0] @ query + 0.1
    assert np.linalg.norm(whole.embed_passages([long])[0]) == pytest.approx(1, abs=1e-5)
