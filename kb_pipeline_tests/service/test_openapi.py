"""The committed description of the API is what the application serves, and says of errors what is answered."""

from __future__ import annotations

import json
from pathlib import Path

from starlette.testclient import TestClient

from kb_pipeline.service.app import PUBLIC
from kb_pipeline_tests.service.serving import API, PROBLEM

COMMITTED = Path(__file__).parents[2] / "docs/openapi.json"


def test_the_committed_description_is_that_of_the_application(http: TestClient) -> None:
    served = http.get(f"{API}/openapi.json").json()
    assert json.loads(COMMITTED.read_text()) == served, (
        "write it anew: python -m kb_pipeline.service > docs/openapi.json"
    )


def test_every_operation_answers_errors_as_problems_and_takes_a_token(http: TestClient) -> None:
    served = http.get(f"{API}/openapi.json").json()
    assert served["openapi"].startswith("3.1")
    assert list(served["components"]["responses"]["Problem"]["content"]) == [PROBLEM]
    for path, operations in served["paths"].items():
        for operation in operations.values():
            assert set(operation["responses"]) >= {"4XX", "5XX"}
            assert "422" not in operation["responses"]
            assert operation.get("security") == (None if path in PUBLIC else [{"token": []}])
            assert operation["description"] or operation["summary"]
