"""Key sets of issuers: rotation is followed, and nobody can make the issuer be asked at will."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kb_pipeline.errors import IssuerAway
from kb_pipeline.operations.key_sets import KeySet
from kb_pipeline_tests.operations.tokens import Issuer, serve_issuer


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with serve_issuer() as serving:
        yield serving


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(issuer: Issuer, clock: Clock) -> KeySet:
    return KeySet(issuer.url, f"{issuer.url}/keys", clock=clock)


def test_a_new_key_is_found_and_an_old_one_is_gone_in_ten_minutes(keys: KeySet, issuer: Issuer, clock: Clock) -> None:
    assert keys.find("rsa-1", "RS256") is not None
    issuer.add("rsa-2", "RS256")
    issuer.remove("rsa-1")
    clock.now += 11
    assert keys.find("rsa-1", "RS256") is not None, "known, and not asked for again yet"
    assert keys.find("rsa-2", "RS256") is not None
    assert keys.find("rsa-1", "RS256") is None
    issuer.remove("rsa-2")
    clock.now += 601
    assert keys.find("rsa-2", "RS256") is None


def test_unknown_keys_do_not_make_the_issuer_be_asked_each_time(keys: KeySet, issuer: Issuer, clock: Clock) -> None:
    for number in range(50):
        assert keys.find(f"unknown-{number}", "RS256") is None
    assert len(issuer.requests) == 1
    clock.now += 11
    for number in range(50):
        assert keys.find(f"unknown-{number}", "RS256") is None
    assert len(issuer.requests) == 2


def test_known_keys_are_used_for_an_hour_while_the_issuer_is_away(keys: KeySet, issuer: Issuer, clock: Clock) -> None:
    assert keys.find("rsa-1", "RS256") is not None
    issuer.fails = True
    for _ in range(5):
        clock.now += 700
        assert keys.find("rsa-1", "RS256") is not None
    clock.now += 700
    with pytest.raises(IssuerAway):
        keys.find("rsa-1", "RS256")
    issuer.fails = False
    clock.now += 11
    assert keys.find("rsa-1", "RS256") is not None


def test_the_key_set_is_found_by_the_issuers_configuration(issuer: Issuer, clock: Clock) -> None:
    assert KeySet(issuer.url, clock=clock).find("rsa-1", "RS256") is not None
    assert issuer.requests == ["/.well-known/openid-configuration", "/keys"]
    stranger = KeySet(f"{issuer.url}/", clock=clock)  # its configuration names itself otherwise
    with pytest.raises(IssuerAway):
        stranger.find("rsa-1", "RS256")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"keys": 1}', b'{"keys": [1]}', b"\xff", b"[" * 100_000, b" " * (1 << 19)]
)
def test_an_answer_that_is_no_key_set_leaves_none(keys: KeySet, issuer: Issuer, body: bytes) -> None:
    issuer.body = body
    with pytest.raises(IssuerAway):
        keys.find("rsa-1", "RS256")


def test_a_key_serves_its_own_algorithm_and_use_alone(keys: KeySet, issuer: Issuer, clock: Clock) -> None:
    issuer.add("ec", "ES256")
    issuer.add("encrypts", "RS256")
    issuer.keys["encrypts"]["use"] = "enc"
    issuer.keys["secret"] = {"kty": "oct", "k": "c2VjcmV0", "kid": "secret", "alg": "HS256"}
    issuer.keys["broken"] = {"kty": "RSA", "n": "!", "e": "AQAB", "kid": "broken"}
    assert keys.find("ec", "ES256") is not None
    for key_id, algorithm in (
        ("ec", "RS256"), ("rsa-1", "ES256"), ("rsa-1", "PS256"), ("rsa-1", "RS512"), ("encrypts", "RS256"),
        ("secret", "RS256"), ("broken", "RS256"),
    ):  # fmt: skip
        clock.now += 11
        assert keys.find(key_id, algorithm) is None, (key_id, algorithm)


def test_a_token_that_names_no_key_is_verified_by_the_only_one(keys: KeySet, issuer: Issuer, clock: Clock) -> None:
    assert keys.find(None, "RS256") is not None
    issuer.add("rsa-2", "RS256")
    clock.now += 601
    assert keys.find(None, "RS256") is None
