"""`/v1/embeddings` and `/v1/models`: what OpenAI's clients send, the vectors that KBs hold, and what is refused."""

from __future__ import annotations

import base64
import struct
from typing import Any

import numpy as np
import pytest

from kb_pipeline.installation import Installation
from kb_pipeline.service import cl100k
from kb_pipeline_tests.service.serving import Client

MODEL = "all-MiniLM-L6-v2"
TEXTS = ["Apples keep for months.", "Birnen reifen nach."]


def embed(client: Client, **asked: Any) -> Any:
    return client("POST", "/v1/embeddings", json={"model": MODEL} | asked)


def vectors(client: Client, **asked: Any) -> np.ndarray:
    answer = embed(client, **asked).json()
    assert [each["index"] for each in answer["data"]] == list(range(len(answer["data"])))
    return np.array([each["embedding"] for each in answer["data"]], dtype=np.float32)


def test_vectors_are_those_of_the_model_in_the_order_of_the_texts(acme: Client, api: Installation) -> None:
    found = vectors(acme, input=TEXTS)
    assert np.allclose(found, api.embed(TEXTS, MODEL).vectors, atol=1e-6)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-4)
    assert np.allclose(vectors(acme, input=TEXTS[0]), found[:1], atol=1e-4)


def test_base64_is_little_endian_float32(acme: Client) -> None:
    told = embed(acme, input=TEXTS, encoding_format="base64").json()["data"]
    bytes_of = [base64.b64decode(each["embedding"]) for each in told]
    assert np.allclose([struct.unpack("<384f", each) for each in bytes_of], vectors(acme, input=TEXTS), atol=1e-4)


def test_token_ids_are_the_texts_that_they_stand_for(acme: Client) -> None:
    ids = [cl100k.encode(text) for text in TEXTS]
    as_texts = vectors(acme, input=TEXTS)
    assert np.allclose(vectors(acme, input=ids), as_texts, atol=1e-4)
    assert np.allclose(vectors(acme, input=ids[0]), as_texts[:1], atol=1e-4)


def test_usage_counts_tokens_of_the_model(acme: Client) -> None:
    one, two = (embed(acme, input=texts).json()["usage"] for texts in (TEXTS[:1], TEXTS))
    assert 0 < one["prompt_tokens"] < two["prompt_tokens"] == two["total_tokens"]


def test_a_question_is_embedded_as_one_if_that_is_said(acme: Client) -> None:
    passage, query = (
        vectors(acme, input="where do apples keep", model="multilingual-e5-small", input_type=kind)
        for kind in ("passage", "query")
    )
    assert not np.allclose(passage, query, atol=1e-3)


def test_a_text_beyond_the_window_is_embedded_whole(acme: Client) -> None:
    long = "apples " * 400
    assert not np.allclose(vectors(acme, input=long), vectors(acme, input=long + "quinces " * 300), atol=1e-3)


@pytest.mark.parametrize(
    ("asked", "status", "param"),
    [
        ({"input": ""}, 422, None),
        ({"input": ["a", " "]}, 422, None),
        ({"input": []}, 422, "input"),
        ({"input": [[]]}, 422, "input"),
        ({"input": ["a"] * 2049}, 422, "input"),
        ({"input": [1, "a"]}, 422, "input"),
        ({"input": [100_300]}, 422, None),
        ({"input": [2**70]}, 422, None),
        ({"input": [-1]}, 422, "input"),
        ({"input": {"text": "a"}}, 422, "input"),
        ({"input": "a", "dimensions": 64}, 422, None),
        ({"input": "a", "encoding_format": "int8"}, 422, "encoding_format"),
        ({"input": "a", "model": "text-embedding-3-small"}, 422, None),
        ({"input": "a", "model": "/etc"}, 422, None),
        ({"input": ["word " * 15_000] * 8}, 422, None),
    ],
    ids=str,
)
def test_what_cannot_be_embedded_is_refused_as_openai_says_it(
    acme: Client, asked: dict[str, Any], status: int, param: str | None
) -> None:
    answer = embed(acme, **asked)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["message"], error["type"]) == (answer.json()["detail"], "invalid_request_error")
    assert (error["param"] or "").startswith(param or "")


def test_the_dimension_of_the_model_may_be_named(acme: Client) -> None:
    assert vectors(acme, input="a", dimensions=384).shape == (1, 384)


def test_models_are_those_of_the_kbs_that_the_key_sees(acme: Client) -> None:
    listed = acme("GET", "/v1/models").json()["data"]
    assert [each["id"] for each in listed] == [MODEL, "multilingual-e5-small", "kb/acme.docs"]
    for each in listed:
        assert acme("GET", f"/v1/models/{each['id']}").json() == each
    assert acme("GET", "/v1/models/kb%2Facme.docs").json()["id"] == "kb/acme.docs"
    for unknown in ("gpt-9", "kb/globex.docs", "kb/acme.none"):
        assert acme("GET", f"/v1/models/{unknown}").status_code == 404
