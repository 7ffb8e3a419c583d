"""`/openwebui/search`: pages of the KBs that a key sees, each once, with the passage that answers."""

from __future__ import annotations

import pytest

from kb_pipeline_tests.service.serving import Client


def test_pages_are_found_once_with_what_answers(acme: Client) -> None:
    found = acme("POST", "/openwebui/search", json={"query": "where do apples keep for months", "count": 3}).json()
    assert len(found) == 3
    assert set(found[0]) == {"link", "title", "snippet"}
    assert found[0]["title"] == "Apples"
    assert "months" in found[0]["snippet"]
    assert len({each["link"] for each in found}) == 3


def test_the_kbs_that_are_named_are_searched_and_no_others(acme: Client, globex: Client) -> None:
    asked = {"query": "apples", "count": 2}
    named = acme("POST", "/openwebui/search", params={"kb": "acme.docs"}, json=asked)
    assert named.json() == acme("POST", "/openwebui/search", json=asked).json()
    for kb in ("acme.docs", "acme.none", "x"):
        assert globex("POST", "/openwebui/search", params={"kb": kb}, json=asked).status_code == 404


@pytest.mark.parametrize("asked", [{"query": ""}, {"query": "a", "count": 0}, {"count": 1}])
def test_what_cannot_be_asked_is_refused(acme: Client, asked: dict[str, object]) -> None:
    assert acme("POST", "/openwebui/search", json=asked).status_code == 422
