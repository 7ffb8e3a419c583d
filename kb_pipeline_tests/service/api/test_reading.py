"""What programs read of a KB over HTTP is what the Python API returns, a page at a time, of one version."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kb_pipeline.installation import Installation, Kb
from kb_pipeline.service.api.search import SearchRequest, _deciding
from kb_pipeline.service.cursors import SearchPlace
from kb_pipeline_tests.service.serving import DOCS, Client


def test_kbs_are_listed_by_id_a_page_at_a_time(acme: Client) -> None:
    listed = acme.get("/kbs").json()
    assert [(kb["id"], kb["live_version"], kb["status"]) for kb in listed["kbs"]] == [("acme.docs", 1, "ready")]
    assert listed["after"] is None
    assert acme.get("/kbs", params={"after": "acme.docs"}).json() == {"kbs": [], "after": None}


def test_a_kb_says_how_it_stands_and_what_file_is_in_force(acme: Client) -> None:
    shown = acme.get("/kbs/acme.docs").json()
    assert (shown["id"], shown["live_version"], shown["model"]) == ("acme.docs", 1, "all-MiniLM-L6-v2")
    assert "start_urls" in acme.get("/kbs/acme.docs/file").json()["yaml"]


def test_a_search_returns_what_the_python_api_does(acme: Client, api: Installation) -> None:
    found = acme.get("/kbs/acme.docs/search", params={"q": "where do apples keep for months", "k": 3}).json()
    expected = api.kb(DOCS).search("where do apples keep for months", k=3)
    assert [hit["chunk_id"] for hit in found["hits"]] == [hit.chunk_id for hit in expected]
    assert (found["id"], found["version"], found["mode"]) == ("acme.docs", 1, "hybrid")
    assert found["hits"][0]["title"] == "Apples"


def test_a_search_by_body_is_the_same_and_marks_the_words(acme: Client) -> None:
    asked = {"query": "apples keep for months", "k": 2, "mode": "keyword", "highlights": True}
    found = acme.post("/kbs/acme.docs/search", json=asked).json()
    by_url = acme.get("/kbs/acme.docs/search", params={"q": asked["query"], "k": 2, "mode": "keyword"}).json()
    assert [hit["chunk_id"] for hit in found["hits"]] == [hit["chunk_id"] for hit in by_url["hits"]]
    passage = found["hits"][0]["passage"]
    assert "apples" in {passage["text"][start:end].lower() for start, end in passage["marks"]}


def test_the_same_search_of_the_same_version_need_not_be_sent_again(acme: Client) -> None:
    first = acme.get("/kbs/acme.docs/search", params={"q": "apples"})
    again = acme.get("/kbs/acme.docs/search", params={"q": "apples"}, headers={"If-None-Match": first.headers["etag"]})
    other = acme.get("/kbs/acme.docs/search", params={"q": "pears"}, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert other.status_code == 200
    assert first.headers["etag"].startswith('"v1-')


def test_a_client_that_has_the_answer_makes_no_search(acme: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    first = acme.get("/kbs/acme.docs/search", params={"q": "plums"})
    monkeypatch.setattr(Kb, "search", None)
    again = acme.get("/kbs/acme.docs/search", params={"q": "plums"}, headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304


def test_a_search_is_filtered_before_it_is_ranked(acme: Client) -> None:
    no_root = {"type": "not", "filters": [{"type": "eq", "key": "title", "value": "Apples"}]}
    everything = acme.post("/kbs/acme.docs/search", json={"query": "apples", "k": 50}).json()["hits"]
    others = acme.post("/kbs/acme.docs/search", json={"query": "apples", "k": 50, "filters": no_root}).json()["hits"]
    assert {hit["title"] for hit in everything} - {hit["title"] for hit in others} == {"Apples"}
    by_url = acme.get("/kbs/acme.docs/search", params={"q": "apples", "k": 50, "filters": json.dumps(no_root)}).json()
    assert [hit["chunk_id"] for hit in by_url["hits"]] == [hit["chunk_id"] for hit in others]


@pytest.mark.parametrize("filters", [
    {"type": "eq", "key": "colour", "value": "red"}, {"type": "eq", "key": "title"}, {"type": "and", "filters": []},
    {"type": "eq", "key": "title", "value": 5}, {"type": "eq", "key": "fetched_at", "value": "then"}, [], "title",
])  # fmt: skip
def test_a_filter_that_cannot_be_is_refused_with_what_can(acme: Client, filters: Any) -> None:
    assert acme.post("/kbs/acme.docs/search", json={"query": "apples", "filters": filters}).status_code == 422
    assert acme.get("/kbs/acme.docs/search", params={"q": "a", "filters": json.dumps(filters)}).status_code == 422


@pytest.mark.parametrize("filters", ["{", "[" * 2_000, '{"type": "and", "filters": [' * 100])
def test_a_filter_that_is_no_json_is_refused(acme: Client, filters: str) -> None:
    assert acme.get("/kbs/acme.docs/search", params={"q": "a", "filters": filters}).status_code == 422
    nested = {"query": "a", "filters": json.loads('{"type": "and", "filters": [' * 400 + "{}" + "]}" * 400)}
    assert acme.post("/kbs/acme.docs/search", json=nested).status_code == 422


@pytest.mark.parametrize("mode", ["hybrid", "vector", "keyword"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_pages_of_a_search_are_the_search_without_gap_or_repeat(acme: Client, mode: str, size: int) -> None:
    asked = {"query": "apples pears fruit", "mode": mode}
    whole = acme.post("/kbs/acme.docs/search", json=asked | {"k": 100}).json()
    assert whole["cursor"] is None
    seen, cursor = [], None
    while True:
        page = acme.post("/kbs/acme.docs/search", json=asked | {"k": size, "cursor": cursor}).json()
        seen += page["hits"]
        if (cursor := page["cursor"]) is None:
            break
    assert seen == whole["hits"]
    assert [hit["rank"] for hit in seen] == list(range(1, len(seen) + 1))


def test_a_cursor_is_of_one_search_alone(acme: Client) -> None:
    cursor = acme.get("/kbs/acme.docs/search", params={"q": "apples", "k": 1}).json()["cursor"]
    other = acme.get("/kbs/acme.docs/search", params={"q": "pears", "k": 1, "cursor": cursor})
    assert (other.status_code, "another search" in other.json()["detail"]) == (422, True)
    for broken in ("x", cursor[:-4], "MTo"):
        assert acme.get("/kbs/acme.docs/search", params={"q": "apples", "cursor": broken}).status_code == 422
    gone = SearchPlace(99, 1, "x").as_cursor(_deciding(SearchRequest(query="apples")))
    assert acme.get("/kbs/acme.docs/search", params={"q": "apples", "cursor": gone}).status_code == 410
    erased = SearchPlace(1, 1, "x").as_cursor(_deciding(SearchRequest(query="apples")))
    assert acme.get("/kbs/acme.docs/search", params={"q": "apples", "cursor": erased}).status_code == 410


@pytest.mark.parametrize("asked", [
    {"q": ""}, {}, {"q": "a", "k": 0}, {"q": "a", "k": 101}, {"q": "a", "mode": "best"}, {"q": " "},
    {"q": "a", "language": "english"}, {"q": "x" * 5000}, {"q": "a", "as_of": "yesterday"},
])  # fmt: skip
def test_a_search_that_cannot_be_is_refused_with_its_reason(acme: Client, asked: dict[str, object]) -> None:
    answer = acme.get("/kbs/acme.docs/search", params=asked)
    assert answer.status_code == 422


def test_a_version_that_is_not_there_is_404(acme: Client) -> None:
    assert acme.get("/kbs/acme.docs/search", params={"q": "a", "as_of": 99}).status_code == 404


def test_a_body_that_is_no_json_is_400_and_an_unknown_field_is_named(acme: Client) -> None:
    assert (
        acme.post("/kbs/acme.docs/search", content=b"{", headers={"Content-Type": "application/json"}).status_code
        == 400
    )
    answer = acme.post("/kbs/acme.docs/search", json={"query": "a", "top_k": 3})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/top_k")


def test_documents_are_listed_whole_by_pages_of_any_size(acme: Client, api: Installation) -> None:
    whole = {document.document_id for document in api.kb(DOCS).documents()}
    for limit in (1, 2, 100):
        seen: list[str] = []
        cursor = None
        while True:
            page = acme.get(
                "/kbs/acme.docs/documents", params={"limit": limit} | ({"cursor": cursor} if cursor else {})
            ).json()
            assert page["total"] == len(whole)
            assert len(page["documents"]) <= limit
            seen += [document["document_id"] for document in page["documents"]]
            if (cursor := page["cursor"]) is None:
                break
        assert seen == sorted(whole)


@pytest.mark.parametrize("cursor", ["x", "", "MTo", "%00", "OTk6YQ", "LTE6YQ"])
def test_a_cursor_that_is_none_of_ours_is_refused(acme: Client, cursor: str) -> None:
    answer = acme.get("/kbs/acme.docs/documents", params={"cursor": cursor})
    assert answer.status_code in (200, 410, 422)
    assert (answer.status_code == 200) == (cursor == "MTo")


def test_a_document_its_markdown_its_bytes_and_its_chunks(acme: Client) -> None:
    hit = acme.get("/kbs/acme.docs/search", params={"q": "apples"}).json()["hits"][0]
    path = f"/kbs/acme.docs/documents/{hit['document_id']}"
    shown = acme.get(path).json()
    assert (shown["title"], shown["key"]) == ("Apples", hit["key"])
    markdown = acme.get(f"{path}/markdown")
    assert (markdown.text, markdown.headers["content-type"]) == (shown["markdown"], "text/markdown; charset=utf-8")
    raw = acme.get(f"{path}/raw")
    assert b"<title>" in raw.content
    assert (raw.headers["content-type"], raw.headers["content-disposition"]) == (
        "application/octet-stream",
        "attachment",
    )
    chunks = acme.get(f"{path}/chunks").json()["chunks"]
    assert hit["chunk_id"] in {chunk["chunk_id"] for chunk in chunks}
    assert all(shown["markdown"][chunk["start"] : chunk["end"]] == chunk["text"] for chunk in chunks)


def test_a_document_that_is_not_there_is_404(acme: Client) -> None:
    for part in ("", "/markdown", "/raw", "/chunks"):
        assert acme.get(f"/kbs/acme.docs/documents/{'0' * 32}{part}").status_code == 404
        assert acme.get(f"/kbs/acme.docs/documents/x{part}").status_code == 422


def test_versions_are_listed(acme: Client) -> None:
    (version,) = acme.get("/kbs/acme.docs/versions").json()["versions"]
    assert (version["version"], version["live"], version["status"]) == (1, True, "published")
