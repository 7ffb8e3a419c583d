"""Guards against server-side request forgery: no private, local or disguised address unless the operator allows it.

The transports call `refusal` for every address that a host name resolves to, right before they connect to that very
address, so neither redirects nor changing DNS responses get around it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import unquote

import ada_url

ALLOW_VARIABLE = "KB_ALLOW_PRIVATE_NETWORKS"
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_DENIED: tuple[tuple[_Network, str], ...] = tuple(
    (ipaddress.ip_network(cidr), why)
    for cidr, why in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local, where clouds keep their metadata"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignments"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/96", "unspecified, loopback or IPv4-compatible"),
        ("64:ff9b::/96", "NAT64, which embeds an IPv4 address"),
        ("64:ff9b:1::/48", "local NAT64"),
        ("100::/64", "discard"),
        ("2001::/32", "Teredo, which embeds an IPv4 address"),
        ("2002::/16", "6to4, which embeds an IPv4 address"),
        ("5f00::/16", "segment routing"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)
_PLAIN_IPV4 = re.compile(r"(?:(?:0|[1-9][0-9]{0,2})\.){3}(?:0|[1-9][0-9]{0,2})")
_SCHEME_AND_SLASHES = re.compile(r"^[^:/?#]*:[/\\]*")


def refusal(address: str, allowed_networks: Iterable[str] = ()) -> str | None:
    """Return why this IP address must not be fetched, or None when it may be."""
    return _refusal(address, tuple(allowed_networks))


@lru_cache(maxsize=4096)
def _refusal(address: str, allowed_networks: tuple[str, ...]) -> str | None:
    parsed = _parse(address)
    if parsed is None:
        return f"{address!r} is not an IP address"
    if _is_opened(parsed, allowed_networks):
        return None
    why = next((why for network, why in _DENIED if parsed in network), None)
    if why is None and (not parsed.is_global or parsed.is_multicast):
        why = "not a public address"
    return f"{address} is {why}; an operator can open its network with {ALLOW_VARIABLE}" if why else None


def _parse(address: str) -> _Address | None:
    # A scope id (fe80::1%eth0) names an interface, never a public host: check the address without it.
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0].strip("[]"))
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed


@lru_cache(maxsize=256)
def _networks(cidrs: tuple[str, ...]) -> tuple[_Network, ...]:
    return tuple(ipaddress.ip_network(cidr, strict=False) for cidr in cidrs)


def _is_opened(address: _Address, allowed_networks: tuple[str, ...]) -> bool:
    return any(address in network for network in _networks(allowed_networks))


def literal_refusal(host: str, allowed_networks: Iterable[str] = ()) -> str | None:
    """Return why a host that is written as an IP address must not be fetched; None for names: DNS decides."""
    return None if _parse(host) is None else refusal(host, allowed_networks)


def url_refusal(url: str) -> str | None:
    """Return why a URL, as it was written, must not be fetched, or None when it may be; resolves no name.

    The spelling matters here: parsers normalise http://2130706433/ and http://0x7f.1/ to 127.0.0.1, and an address
    written that way is meant to get past a check, whichever address it is.
    """
    try:
        parsed = ada_url.URL(url.strip())
    except (ValueError, UnicodeError):
        return "it is not a valid absolute URL"
    if parsed.protocol not in ("http:", "https:"):
        return f"the scheme {parsed.protocol.rstrip(':')!r} is not http or https"
    if parsed.username or parsed.password:
        return "it carries a user name or password"
    if not parsed.hostname:
        return "it has no host"
    return _odd_number(url, str(parsed.hostname))


def _odd_number(url: str, host: str) -> str | None:
    if not _PLAIN_IPV4.fullmatch(host):
        return None
    written = _written_host(url)
    return None if written == host else f"its host {written!r} is a disguised spelling of {host}"


def _written_host(url: str) -> str:
    # Browsers drop tabs and newlines anywhere in a URL.
    text = _SCHEME_AND_SLASHES.sub("", re.sub(r"[\t\r\n]", "", url.strip()))
    return unquote(re.split(r"[/\\?#:]", text, maxsplit=1)[0])
