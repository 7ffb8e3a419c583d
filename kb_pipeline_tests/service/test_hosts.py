"""By which names the service may be asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kb_pipeline.service.hosts import is_own_host, is_own_origin, own_url
from kb_pipeline.settings import Settings

SETTINGS = Settings(Path("/home"), "sqlite://", Path("/home/data"), "", (), "text")
KNOWN = replace(SETTINGS, public_url="https://kb.example.com", allowed_hosts=("kb", "kb.internal"))


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]", "[::1]:8000", "10.0.0.9"])
def test_addresses_and_localhost_are_its_own(host: str) -> None:
    assert is_own_host(SETTINGS, host)


@pytest.mark.parametrize(
    "host",
    [
        *("", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "kb:8000", "a b", "[::1"),
        *("localhost:x", "user@evil.example", "localhost@evil.example", "evil.example#localhost"),
    ],
)
def test_other_names_are_not(host: str) -> None:
    assert not is_own_host(SETTINGS, host)


@pytest.mark.parametrize("host", ["kb.example.com", "KB.example.com:443", "kb", "kb:8000", "kb.internal"])
def test_names_that_the_operator_lists_are(host: str) -> None:
    assert is_own_host(KNOWN, host)
    assert not is_own_host(KNOWN, f"x.{host}")
    assert is_own_host(replace(SETTINGS, allowed_hosts=("*",)), host)


def test_an_origin_is_its_own_by_the_same_names() -> None:
    assert is_own_origin(KNOWN, "https://kb.example.com")
    assert is_own_origin(KNOWN, "http://localhost:3000")
    assert not any(is_own_origin(KNOWN, each) for each in ("null", "", "https://evil.example", "file://localhost"))


def test_the_public_url_goes_before_what_was_asked() -> None:
    assert own_url(KNOWN, "http", "10.0.0.9:8000") == "https://kb.example.com"
    assert own_url(SETTINGS, "http", "10.0.0.9:8000") == "http://10.0.0.9:8000"
