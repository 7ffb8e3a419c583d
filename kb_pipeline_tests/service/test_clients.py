"""The programs that teams already have, in their own environments, get from the service what the Python API returns."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from kb_pipeline.installation import Installation
from kb_pipeline.service import cl100k
from kb_pipeline.service.mcp.server import TOOLS
from kb_pipeline_tests.operations.home import Home
from kb_pipeline_tests.service.clients.environments import python_of
from kb_pipeline_tests.service.serving import DOCS, key_of, served

PROGRAMS = Path(__file__).parent / "clients/programs"
MODEL = "all-MiniLM-L6-v2"
TEXTS = ["Apples keep for months.", "Birnen reifen nach."]


@pytest.fixture(scope="module")
def address(two_tenants: Home) -> Iterator[str]:
    with served(two_tenants) as (address, _):
        yield address


@pytest.fixture(scope="module")
def run_client(two_tenants: Home, address: str) -> Callable[..., Any]:
    """Run a program in an environment, with the service's address and a key of acme; return the JSON that it prints."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(two_tenants.settings.home),
        "ADDRESS": address,
        "KEY": key_of(two_tenants),
        "HAYSTACK_TELEMETRY_ENABLED": "False",
    }

    def run(name: str, program: str, **more: str) -> Any:
        done = subprocess.run(
            [python_of(name), PROGRAMS / f"{program}.py"], env=environment | more, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="module")
def expected(api: Installation) -> np.ndarray:
    return api.embed(TEXTS, MODEL).vectors


@pytest.mark.parametrize(("environment", "version"), [("current", "3.57"), ("earlier", "2.54")])
def test_openais_client(
    run_client: Callable[..., Any], api: Installation, expected: np.ndarray, environment: str, version: str
) -> None:
    told = run_client(environment, "openai_client")
    assert told["version"].startswith(version)
    assert told["models"] == [MODEL, "multilingual-e5-small", "kb/acme.docs"]
    assert told["model"] == "kb/acme.docs"
    assert np.allclose(told["base64"], expected, atol=1e-4)
    assert np.allclose(told["floats"], expected, atol=1e-4)
    assert told["tokens"] > 0
    assert (told["stores"], told["store"], told["file"]) == (["vs_acme.docs"], 5, "completed")
    hits = api.kb(DOCS).search("where do apples keep for months", 3)
    assert [[name, text] for name, _, text in told["hits"]] == [[hit.title, hit.text] for hit in hits]
    assert all(0.1 <= score <= 1 for _, score, _ in told["hits"])
    documents = {f"file-{each.document_id}": each for each in api.kb(DOCS).documents()}
    assert len(told["files"]) == len(documents)
    assert set(told["files"]) == set(documents)
    assert told["content"] == [api.kb(DOCS).document(documents[told["files"][0]].key).markdown]
    assert [each["class"] for each in told["errors"]] == [
        "NotFoundError", "UnprocessableEntityError", "UnprocessableEntityError", "AuthenticationError",
    ]  # fmt: skip
    assert [each["code"] for each in told["errors"]] == ["unknown_kb", "usage_error", "unknown_model", "key_refused"]


@pytest.mark.parametrize("environment", ["current", "earlier"])
def test_openais_client_gets_answers(run_client: Callable[..., Any], api: Installation, environment: str) -> None:
    told = run_client(environment, "openai_answers")
    expected = api.kb(DOCS).answer("Where do apples keep for months?")
    for given in ("chat", "streamed_chat", "response", "streamed"):
        assert told[given] == expected.text
    assert "".join(told["chunks"]) == expected.text
    assert told["citations"] == told["files"] == [citation.title for citation in expected.citations]
    assert told["results"] == [hit.text for hit in expected.passages]
    assert (told["verdict"], told["refused"]) == (expected.verdict, "unknown_kb")
    for kinds in (told["kinds"], told["plain"]):
        assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert told["tokens"] > 0


def test_langchain_embeds_texts_and_token_ids(run_client: Callable[..., Any], expected: np.ndarray) -> None:
    tokens = json.dumps([cl100k.encode(text) for text in TEXTS])
    told = run_client("earlier", "langchain_embeddings", TOKENS=tokens)
    for given in ("documents", "ids"):
        assert np.allclose(told[given], expected, atol=1e-4)
    assert np.allclose(told["query"], expected[0], atol=1e-4)


@pytest.mark.parametrize("program", ["llama_index_embedding", "haystack_embedder"])
def test_other_frameworks_embed(run_client: Callable[..., Any], expected: np.ndarray, program: str) -> None:
    told = run_client("earlier", program)
    assert np.allclose(told["documents"], expected, atol=1e-4)
    assert np.allclose(told["query"], expected[0], atol=1e-4)


@pytest.mark.parametrize(
    ("environment", "program", "sdk", "client"),
    [
        ("earlier", "langchain_mcp", "1.30", "0.3"),
        ("current", "mcp_client", "2.3", "2026-07-28"),
        ("current", "fastmcp_client", "2.3", "4.2"),
    ],
)
def test_agents_list_tools_search_read_and_ask(
    run_client: Callable[..., Any], api: Installation, environment: str, program: str, sdk: str, client: str
) -> None:
    told = run_client(environment, program)
    assert told["sdk"].startswith(sdk)
    assert told["client"].startswith(client)
    assert set(told["tools"]) == set(TOOLS)
    kb = api.kb(DOCS)
    expected = kb.search("where do apples keep for months", 3)
    assert [(each["chunk"], each["score"], each["text"]) for each in told["hits"]] == [
        (hit.chunk_id, hit.score, hit.text) for hit in expected
    ]
    assert told["document"] == kb.document_by_id(expected[0].document_id).markdown
    answer = kb.answer("Where do apples keep for months?")
    assert [each["text"] for each in told["answer"]["sentences"]] == [each.text for each in answer.sentences]
    assert [
        (each["document"], each["version"], each["chunk"], each["start"], each["end"])
        for sentence in told["answer"]["sentences"]
        for each in sentence["citations"]
    ] == [(each.document_id, each.version, each.chunk_id, each.start, each.end) for each in answer.citations]
    assert told["refused"][0]
    assert "globex/docs: no such KB here" in told["refused"][1]


def test_dify_retrieves(two_tenants: Home, address: str) -> None:
    asked = {
        "knowledge_id": "acme.docs",
        "query": "where do apples keep for months",
        "retrieval_setting": {"top_k": 2, "score_threshold": 0.3},
        "metadata_condition": {
            "logical_operator": "and",
            "conditions": [{"name": ["language"], "comparison_operator": "is", "value": "en"}],
        },
    }
    headers = {"Authorization": f"Bearer {key_of(two_tenants)}"}
    records = httpx2.post(f"{address}/dify/retrieval", json=asked, headers=headers, timeout=60).json()["records"]
    assert records[0]["title"] == "Apples"
    assert all(each["score"] >= 0.3 and each["metadata"] for each in records)
