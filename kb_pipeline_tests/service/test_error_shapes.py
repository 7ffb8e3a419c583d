"""Problems under `/v1` also have what OpenAI's clients read, those under `/dify` what Dify does."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from kb_pipeline_tests.service.serving import API, Client


@pytest.mark.parametrize(
    ("header", "dify_code"), [({}, 1001), ({"Authorization": "kb_x"}, 1001), ({"Authorization": "Bearer kb_x"}, 1002)]
)
def test_a_refused_key_is_told_in_the_clients_own_form(
    http: TestClient, header: dict[str, str], dify_code: int
) -> None:
    of_openai = Client(http, None)("GET", "/v1/models", headers=header).json()
    assert of_openai["error"] == {
        "message": of_openai["detail"], "type": "authentication_error", "param": None, "code": "key_refused",
    }  # fmt: skip
    of_dify = Client(http, None)("POST", "/dify/retrieval", headers=header, json={}).json()
    assert (of_dify["error_code"], of_dify["error_msg"]) == (dify_code, of_dify["detail"])


def test_other_problems_are_as_they_were(acme: Client) -> None:
    assert set(acme.get("/nothing").json()) == {"type", "title", "status", "detail"}
    assert acme("GET", "/v1/nothing").json()["error"]["code"] == "not_found"
    assert "error" not in acme("GET", f"{API}/kbs").json()
