"""`/v1/vector_stores`: KBs as stores, documents as files, searches with scores from 0 to 1."""

from __future__ import annotations

from typing import Any

import pytest

from kb_pipeline.installation import Installation
from kb_pipeline_tests.service.serving import DOCS, Client

STORE = "/v1/vector_stores/vs_acme.docs"


def search(client: Client, **asked: Any) -> Any:
    return client("POST", f"{STORE}/search", json={"query": "where do apples keep for months"} | asked)


def test_stores_are_the_kbs_that_the_key_sees(acme: Client) -> None:
    listed = acme("GET", "/v1/vector_stores").json()
    (store,) = listed["data"]
    assert (store["id"], store["status"], store["file_counts"]["completed"]) == ("vs_acme.docs", "completed", 5)
    assert (listed["first_id"], listed["last_id"], listed["has_more"]) == (store["id"], store["id"], False)
    assert acme("GET", STORE).json() == store
    assert acme("GET", "/v1/vector_stores", params={"after": store["id"]}).json()["data"] == []
    assert acme("GET", "/v1/vector_stores", params={"after": "vs_acme.none"}).status_code == 422


def test_a_search_has_the_hits_of_the_kb_with_scores_from_0_to_1(acme: Client, api: Installation) -> None:
    found = search(acme, max_num_results=3).json()
    expected = api.kb(DOCS).search("where do apples keep for months", 3)
    assert [each["attributes"]["chunk_id"] for each in found["data"]] == [hit.chunk_id for hit in expected]
    assert [each["content"][0]["text"] for each in found["data"]] == [hit.text for hit in expected]
    scores = [each["score"] for each in found["data"]]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert scores[0] == 1  # first by words and by meaning
    assert (found["data"][0]["filename"], found["search_query"]) == ("Apples", ["where do apples keep for months"])


def test_a_threshold_leaves_out_what_is_below(acme: Client) -> None:
    every = search(acme).json()["data"]
    least = every[1]["score"]
    above = search(acme, ranking_options={"score_threshold": least}).json()["data"]
    assert above == [each for each in every if each["score"] >= least]
    assert len(above) < len(every)


def test_filters_hold(acme: Client) -> None:
    not_apples = {"type": "ne", "key": "title", "value": "Apples"}
    assert "Apples" not in {each["filename"] for each in search(acme, filters=not_apples).json()["data"]}
    compound = {"type": "and", "filters": [not_apples, {"type": "in", "key": "title", "value": ["Pears", "Apples"]}]}
    assert {each["filename"] for each in search(acme, filters=compound).json()["data"]} == {"Pears"}
    answer = search(acme, filters={"type": "eq", "key": "colour", "value": "red"})
    assert (answer.status_code, "there are" in answer.json()["error"]["message"]) == (422, True)


def test_of_several_queries_each_chunk_counts_once_by_its_best(acme: Client) -> None:
    found = search(acme, query=["apples", "pears"]).json()
    names = [each["filename"] for each in found["data"]]
    assert set(names[:2]) == {"Apples", "Pears"}
    assert len({each["attributes"]["chunk_id"] for each in found["data"]}) == len(names)
    assert found["search_query"] == ["apples", "pears"]


@pytest.mark.parametrize("asked", [
    {"query": ""}, {"query": []}, {"query": ["a"] * 9}, {"max_num_results": 0}, {"max_num_results": 51},
    {"ranking_options": {"score_threshold": 2}}, {"ranking_options": {"hybrid_search": {"text_weight": 1}}}, {"k": 3},
], ids=str)  # fmt: skip
def test_a_search_that_cannot_be_is_refused(acme: Client, asked: dict[str, Any]) -> None:
    assert search(acme, **asked).status_code == 422


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_files_are_listed_whole_by_pages_of_any_size(acme: Client, order: str) -> None:
    whole = acme("GET", f"{STORE}/files", params={"order": order}).json()["data"]
    assert [each["created_at"] for each in whole] == sorted((e["created_at"] for e in whole), reverse=order == "desc")
    for limit in (1, 2, 5):
        seen: list[Any] = []
        after: dict[str, str] = {}
        while True:
            page = acme("GET", f"{STORE}/files", params={"order": order, "limit": limit} | after).json()
            seen += page["data"]
            after = {"after": page["last_id"]}
            if not page["has_more"]:
                break
        assert seen == whole
    before = acme("GET", f"{STORE}/files", params={"order": order, "limit": 2, "before": whole[3]["id"]}).json()
    assert (before["data"], before["has_more"]) == (whole[1:3], True)


def test_a_file_is_a_document(acme: Client, api: Installation) -> None:
    listed = acme("GET", f"{STORE}/files").json()["data"]
    for each in listed:
        assert acme("GET", f"{STORE}/files/{each['id']}").json() == each
        content = acme("GET", f"{STORE}/files/{each['id']}/content").json()
        text = api.kb(DOCS).document_by_id(each["id"].removeprefix("file-")).markdown
        assert content["data"] == [{"type": "text", "text": text}]
        assert each["usage_bytes"] == len(text.encode())
    assert acme("GET", f"{STORE}/files", params={"filter": "failed"}).json()["data"] == []


@pytest.mark.parametrize(
    "path", ["", "/search", "/files", f"/files/file-{'0' * 32}", f"/files/file-{'0' * 32}/content"]
)
def test_what_is_another_tenants_is_answered_as_what_is_not_there(acme: Client, globex: Client, path: str) -> None:
    method, options = ("POST", {"json": {"query": "a"}}) if path == "/search" else ("GET", {})
    theirs = globex(method, STORE + path, **options)
    none = globex(method, f"/v1/vector_stores/vs_acme.none{path}", **options)
    assert theirs.status_code == none.status_code == 404
    assert theirs.json()["error"]["code"] == "unknown_kb"
    assert theirs.text.replace("acme.docs", "").replace("acme/docs", "") == (
        none.text.replace("acme.none", "").replace("acme/none", "")
    )
    assert acme(method, f"/v1/vector_stores/acme.docs{path}", **options).status_code == 404
