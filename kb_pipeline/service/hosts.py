"""Which names this service is reached by: what a browser was tricked into calling has another one (DNS rebinding)."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from kb_pipeline.settings import Settings

ANY = "*"
_OWN = frozenset({"localhost"})


def is_own_host(settings: Settings, host: str) -> bool:
    """Return whether a Host header names this service.

    It does by an address, which no DNS record can point elsewhere; by `localhost`; by the host of `KB_PUBLIC_URL`; and
    by what `KB_ALLOWED_HOSTS` lists, whatever the port.
    """
    name = _name(f"//{host}")
    if name is None:
        return False
    named = {*_OWN, *settings.allowed_hosts, _name(settings.public_url)}
    return ANY in named or name in named or _is_address(name)


def is_own_origin(settings: Settings, origin: str) -> bool:
    """Return whether an Origin header is of a page of this service's own, by the same names."""
    scheme, separator, host = origin.partition("://")
    return bool(separator) and scheme in {"http", "https"} and is_own_host(settings, host)


def own_url(settings: Settings, scheme: str, host: str) -> str:
    """Return the address that clients reach the service at, without a closing slash: `KB_PUBLIC_URL`, or as asked."""
    return settings.public_url or f"{scheme}://{host}"


def _name(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        return parts.hostname if parts.port is None or parts.port else None
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
