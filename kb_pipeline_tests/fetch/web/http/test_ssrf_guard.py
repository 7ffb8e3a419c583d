"""Which addresses and spellings are refused."""

from __future__ import annotations

import pytest

from kb_pipeline.fetch.web.http.ssrf_guard import refusal, url_refusal


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.0.9",
        "0.0.0.0",
        "10.1.2.3",
        "172.31.0.1",
        "192.168.1.1",
        "100.64.3.4",
        "169.254.169.254",
        "192.88.99.7",
        "198.18.0.1",
        "203.0.113.9",
        "224.0.0.5",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:7f00:1",
        "64:ff9b::8.8.8.8",
        "64:ff9b:1::1",
        "2002:808:808::1",
        "2001:0:1::1",
        "fd00:ec2::254",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "[::1]",
    ],
)
def test_local_and_disguised_addresses_are_refused(address: str) -> None:
    why = refusal(address)
    assert why is not None
    assert "KB_ALLOW_PRIVATE_NETWORKS" in why


@pytest.mark.parametrize("address", ["8.8.8.8", "100.128.0.1", "::ffff:8.8.8.8", "2606:4700:4700::1111"])
def test_public_addresses_pass(address: str) -> None:
    assert refusal(address) is None


def test_the_operator_can_open_a_network() -> None:
    assert refusal("10.1.2.3", ("10.1.0.0/16",)) is None
    assert refusal("::ffff:10.1.2.3", ("10.1.0.0/16",)) is None
    assert refusal("10.2.0.1", ("10.1.0.0/16",)) is not None
    assert refusal("fd00::5", ("fd00::/8",)) is None


def test_what_is_no_address_is_refused() -> None:
    assert refusal("localhost") is not None
    assert refusal("") is not None


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.com/",
        "gopher://example.com/",
        "data:text/html,x",
        "http://user@example.com/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://017700000001/",
        "http://127.1/",
        "http://0x7f.0.0.1/",
        "http:\\\\127.1\\x",
        "http://１２７.0.0.1/",
        "http://127。0。0。1/",
        "http://1\t27.0.0.01/",
        "not a url",
    ],
)
def test_odd_urls_are_refused(url: str) -> None:
    assert url_refusal(url)


@pytest.mark.parametrize("url", ["https://example.com/", "http://8.8.8.8:80/x", "http://[2606:4700::1]/"])
def test_plain_urls_pass(url: str) -> None:
    assert url_refusal(url) is None
