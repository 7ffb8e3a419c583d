"""JSON Web Tokens over HTTP: a good one sees its tenant's KBs, every other one is answered 401."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

import kb_pipeline
from kb_pipeline.access_settings import AccessSettings
from kb_pipeline.service.app import create_app
from kb_pipeline_tests.operations.home import Home
from kb_pipeline_tests.operations.tokens import AUDIENCE, SECRET, Issuer, claims, invalid_tokens, serve_issuer, signed
from kb_pipeline_tests.service.serving import API, Client


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with serve_issuer() as serving:
        yield serving


@pytest.fixture(scope="module")
def taking_tokens(two_tenants: Home, issuer: Issuer) -> Iterator[TestClient]:
    access = AccessSettings(jwt_secret=SECRET, oidc_issuer=issuer.url, oidc_audience=AUDIENCE)
    home = kb_pipeline.open(settings=replace(two_tenants.settings, access=access))
    with TestClient(create_app(home), raise_server_exceptions=False) as http:
        yield http


def test_a_token_sees_the_kbs_of_its_tenant(taking_tokens: TestClient, issuer: Issuer) -> None:
    for token in (signed(), issuer.token()):
        client = Client(taking_tokens, token)
        assert [kb["id"] for kb in client.get("/kbs").json()["kbs"]] == ["acme.docs"]
        assert client.get("/kbs/acme.docs/search", params={"q": "apples"}).status_code == 200
        theirs, nobodys = (client.get(f"/kbs/{kb}") for kb in ("globex.docs", "nobody.docs"))
        assert theirs.status_code == nobodys.status_code == 404
        assert theirs.text.replace("globex", "nobody") == nobodys.text


def test_a_token_for_other_kbs_sees_none(taking_tokens: TestClient) -> None:
    client = Client(taking_tokens, signed(claims(kbs=["faq"])))
    assert client.get("/kbs").json()["kbs"] == []
    assert client.get("/kbs/acme.docs").status_code == 404


def test_a_token_does_what_its_role_allows(taking_tokens: TestClient) -> None:
    client = Client(taking_tokens, signed(claims(scopes=["build"])))
    assert client.get("/kbs").status_code == 403


def test_every_kind_of_invalid_token_is_answered_401(taking_tokens: TestClient, issuer: Issuer) -> None:
    answered = {}
    for name, token in invalid_tokens(issuer).items():
        headers = {"Authorization": f"Bearer {token}".encode()}
        answered[name] = Client(taking_tokens, None)("GET", f"{API}/kbs", headers=headers).status_code
    assert answered.pop("huge") == 431, "longer than headers may be"
    assert set(answered.values()) == {401}, answered


def test_an_issuer_that_is_away_is_answered_503(two_tenants: Home, issuer: Issuer) -> None:
    access = AccessSettings(oidc_issuer="http://127.0.0.1:9", oidc_audience=AUDIENCE)
    home = kb_pipeline.open(settings=replace(two_tenants.settings, access=access))
    with TestClient(create_app(home), raise_server_exceptions=False) as http:
        answer = Client(http, issuer.token()).get("/kbs")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
