"""`/dify/retrieval`: Dify's contract, each of its operators, and what is refused in its form."""

from __future__ import annotations

from typing import Any

import pytest

from kb_pipeline.service.dify import _COMPARISONS
from kb_pipeline_tests.service.serving import Client


def retrieve(client: Client, conditions: list[Any] | None = None, joined: str = "and", **asked: Any) -> Any:
    body: dict[str, Any] = {
        "knowledge_id": "acme.docs",
        "query": "where do apples keep for months",
        "retrieval_setting": {"top_k": 50, "score_threshold": 0.0},
    }
    if conditions is not None:
        body["metadata_condition"] = {"logical_operator": joined, "conditions": conditions}
    return client("POST", "/dify/retrieval", json=body | asked)


def titles(client: Client, *conditions: Any, joined: str = "and") -> set[str]:
    return {each["title"] for each in retrieve(client, list(conditions), joined).json()["records"]}


ALL = {"Apples", "Pears", "Plums", "Quinces", "Orchard"}


def test_records_are_what_dify_reads(acme: Client) -> None:
    records = retrieve(acme).json()["records"]
    assert {each["title"] for each in records} == ALL
    for each in records:
        assert set(each) == {"content", "score", "title", "metadata"}
        assert 0 <= each["score"] <= 1
        assert each["metadata"]["document_id"]
    assert records[0]["title"] == "Apples"
    some = retrieve(acme, retrieval_setting={"top_k": 2, "score_threshold": records[1]["score"]}).json()["records"]
    assert some == records[:2]


@pytest.mark.parametrize(
    ("name", "operator", "value", "expected"),
    [
        ("title", "contains", "u", {"Plums", "Quinces"}),
        ("title", "not contains", "u", {"Apples", "Pears", "Orchard"}),
        ("title", "start with", "P", {"Pears", "Plums"}),
        ("title", "end with", "rs", {"Pears"}),
        ("title", "is", "Pears", {"Pears"}),
        (["title"], "is", "Pears", {"Pears"}),
        (["language", "title"], "is", "Pears", {"Pears"}),
        (["language", "title"], "is not", "Pears", ALL - {"Pears"}),
        ("title", "in", ["Pears", "Plums"], {"Pears", "Plums"}),
        ("title", "in", "Pears, Plums", {"Pears", "Plums"}),
        ("title", "not in", ["Pears"], ALL - {"Pears"}),
        ("canonical_url", "empty", None, ALL),
        ("title", "not empty", None, ALL),
        ("title", "=", "Pears", {"Pears"}),
        ("title", "≠", "Pears", ALL - {"Pears"}),
        ("title", ">", "Plums", {"Quinces"}),
        ("title", "<", "Orchard", {"Apples"}),
        ("title", "≥", "Plums", {"Plums", "Quinces"}),
        ("title", "≤", "Orchard", {"Apples", "Orchard"}),
        ("fetched_at", "before", "2020-01-01", set()),
        ("fetched_at", "after", "2020-01-01", ALL),
        ("fetched_at", "after", 1577836800, ALL),
    ],
)  # fmt: skip
def test_each_operator_really_filters(
    acme: Client, name: str | list[str], operator: str, value: object, expected: set[str]
) -> None:
    condition = {"name": name, "comparison_operator": operator} | ({} if value is None else {"value": value})
    assert operator in _COMPARISONS
    assert titles(acme, condition) == expected


def test_conditions_are_joined(acme: Client) -> None:
    pears, plums = ({"name": ["title"], "comparison_operator": "is", "value": each} for each in ("Pears", "Plums"))
    assert titles(acme, pears, plums, joined="or") == {"Pears", "Plums"}
    assert titles(acme, pears, plums) == set()
    assert titles(acme) == ALL


@pytest.mark.parametrize("asked", [
    {"query": ""}, {"retrieval_setting": {"top_k": 0, "score_threshold": 0}}, {"retrieval_setting": {}},
    {"metadata_condition": {"conditions": [{"name": [], "comparison_operator": "is", "value": "a"}]}},
    {"metadata_condition": {"conditions": [{"name": "title", "comparison_operator": "like", "value": "a"}]}},
    {"metadata_condition": {"conditions": [{"name": "title", "comparison_operator": "is"}]}},
    {"metadata_condition": {"conditions": [{"name": "title", "comparison_operator": "is", "value": ["a"]}]}},
    {"metadata_condition": {"conditions": [{"name": "colour", "comparison_operator": "is", "value": "red"}]}},
    {"metadata_condition": {"conditions": [{"name": "fetched_at", "comparison_operator": "after", "value": "then"}]}},
], ids=str)  # fmt: skip
def test_what_cannot_be_is_refused_in_difys_form(acme: Client, asked: dict[str, Any]) -> None:
    answer = retrieve(acme, **asked)
    assert (answer.status_code, answer.json()["error_code"]) == (422, 422)
    assert answer.json()["error_msg"] == answer.json()["detail"]


def test_another_tenants_kb_is_answered_as_one_that_is_not_there(globex: Client) -> None:
    theirs, none = (retrieve(globex, knowledge_id=each) for each in ("acme.docs", "acme.none"))
    assert (theirs.status_code, theirs.json()["error_code"]) == (404, 2001)
    assert theirs.text.replace("docs", "none") == none.text
