"""The keys that an issuer of tokens signs with: fetched within limits, kept a while, asked for again when rotated."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

from kb_pipeline.access_settings import is_safe_url
from kb_pipeline.errors import IssuerAway

if TYPE_CHECKING:
    from jwt import PyJWK

FAMILIES = {
    "RS256": "RSA", "RS384": "RSA", "RS512": "RSA", "PS256": "RSA", "PS384": "RSA", "PS512": "RSA",
    "ES256": "EC", "ES384": "EC", "ES512": "EC", "EdDSA": "OKP",
}  # fmt: skip
"""The algorithms that are accepted, all of them asymmetric, and the type of key that each takes."""
_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519"}
_LEAST_RSA_BITS = 2048
"""RFC 7518, section 3.3."""
_REFETCH_AFTER_S = 600.0
"""A key that the issuer took out is accepted no longer than this."""
_KEEP_S = 3600.0
"""How long known keys are used while the issuer cannot be asked."""
_PAUSE_S = 10.0
"""Between two requests to the issuer, whatever tokens are shown: nobody makes us send requests to it at will."""
_TIMEOUT_S = 5.0
_MAX_BYTES = 1 << 18
_MAX_KEYS = 100
_CHUNK_BYTES = 1 << 16


class KeySet:
    """The key set of one issuer; safe in many threads, of which one asks the issuer while the others go on."""

    def __init__(
        self, issuer: str, url: str = "", proxy: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Fetch nothing yet.

        Args:
            issuer: as its tokens and its configuration name it.
            url: of the key set; empty to ask the issuer's configuration for it.
            proxy: URL of an HTTP proxy; empty for none. Those that the environment names for others are ignored.
            clock: seconds.
        """
        self._issuer, self._url, self._clock = issuer, url, clock
        proxies = {"https": proxy} if proxy else {}
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies), _NoRedirects())
        self._fetching = threading.Lock()
        self._keys: tuple[Mapping[str, Any], ...] = ()
        self._fetched_at = self._asked_at = float("-inf")

    def find(self, key_id: str | None, algorithm: str) -> PyJWK | None:
        """Return the key to verify a token with, None if the issuer has none such.

        Args:
            key_id: the token's `kid`; without it, the issuer must have exactly one key for the algorithm.
            algorithm: one of FAMILIES.

        Raises:
            IssuerAway: the issuer cannot be asked, and nothing is known of it that is fresh enough.
        """
        if self._age() > _REFETCH_AFTER_S:
            self._refetch()
        if self._age() > _KEEP_S:
            raise IssuerAway(self._issuer)
        if (key := self._known(key_id, algorithm)) is None:
            self._refetch()
            key = self._known(key_id, algorithm)
        return key

    def _age(self) -> float:
        return self._clock() - self._fetched_at

    def _known(self, key_id: str | None, algorithm: str) -> PyJWK | None:
        fitting = [key for key in self._keys if _fits(key, key_id, algorithm)]
        return _opened(fitting[0], algorithm) if len(fitting) == 1 else None

    def _refetch(self) -> None:
        """Ask the issuer, unless that was done a moment ago; on failure what is known stays."""
        with self._fetching:
            if self._clock() - self._asked_at < _PAUSE_S:
                return
            self._asked_at = self._clock()
            try:
                keys = self._get(self._url or self._discovered()).get("keys")
                if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys[:_MAX_KEYS]):
                    return
            except (OSError, ValueError, RecursionError, HTTPException, urllib.error.URLError):
                return
            self._keys, self._fetched_at = tuple(keys[:_MAX_KEYS]), self._clock()

    def _discovered(self) -> str:
        """Return the URL of the key set by OpenID Connect Discovery 1.0, section 4; raise ValueError."""
        configuration = self._get(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        url = configuration.get("jwks_uri")
        if configuration.get("issuer") != self._issuer or not isinstance(url, str) or not is_safe_url(url):
            raise ValueError("the configuration is another issuer's, or names no safe URL")
        return url

    def _get(self, url: str) -> dict[str, Any]:
        """Return a JSON object; raise OSError or ValueError, also for what is too long or takes too long."""
        until = time.monotonic() + _TIMEOUT_S
        body = bytearray()
        with self._opener.open(url, timeout=_TIMEOUT_S) as answer:
            while chunk := answer.read1(_CHUNK_BYTES):
                body += chunk
                if len(body) > _MAX_BYTES or time.monotonic() > until:
                    raise ValueError(f"{url} answers too much or too slowly")
        found = json.loads(body)
        if not isinstance(found, dict):
            raise ValueError(f"{url} answers no object")
        return found


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Where keys come from is the operator's to say, not a server's."""

    def redirect_request(self, *_: object) -> None:
        """Follow none: the answer counts as an error."""


def _fits(key: Mapping[str, Any], key_id: str | None, algorithm: str) -> bool:
    """Return whether a key is that of the id, and made to verify signatures by the algorithm."""
    operations = key.get("key_ops", ["verify"])
    return (
        (key_id is None or key.get("kid") == key_id)
        and key.get("kty") == FAMILIES[algorithm]
        and key.get("crv") == _CURVES.get(algorithm, key.get("crv"))
        and key.get("alg", algorithm) == algorithm
        and key.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
    )


def _opened(key: Mapping[str, Any], algorithm: str) -> PyJWK | None:
    from jwt import PyJWK
    from jwt.exceptions import PyJWTError

    try:
        opened = PyJWK(dict(key), algorithm=algorithm)
    except (PyJWTError, ValueError, TypeError):
        return None
    if FAMILIES[algorithm] == "RSA" and opened.key.key_size < _LEAST_RSA_BITS:
        return None
    return opened
