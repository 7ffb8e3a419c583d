"""The secret part of API keys and operator keys: made at random, stored as a hash, compared at one cost for all.

The last six characters of a key are a checksum, by which scanners tell a real key from a look-alike without asking us.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
import zlib
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argon2 import PasswordHasher

SECRET_FORM = r"[0-9A-Za-z]{43}"  # noqa: S105 - what secrets look like
CHECKSUM_FORM = r"[0-9A-Za-z]{6}"
ID_FORM = r"[0-9a-f]{12}"

_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SECRET_DIGITS = 43  # 62 ** 43 > 2 ** 256
_DECOY = (
    "$argon2id$v=19$m=65536,t=3,p=4$sZlGuVJ03+2v3akdDql3rg$xc7EiMuv60MUe6gidL6G638jrWxPY3CdHdzyAB4xuek"  # of nothing
)
"""What a key of unknown id is compared with: it costs what a wrong secret costs."""
_MOST_PROVEN = 1024
_proven: dict[bytes, str] = {}
"""Digests of keys to the hash that each was found to match: see `matches`."""


def new_id() -> str:
    """Return a public id for a new key."""
    return secrets.token_hex(6)


def new_secret() -> str:
    """Return 256 random bits."""
    return _base62(secrets.randbits(256), _SECRET_DIGITS)


def hash_secret(secret: str) -> str:
    """Return the Argon2id hash of a secret, with its parameters and salt."""
    return _hasher().hash(secret)


def with_checksum(body: str) -> str:
    """Return a whole key."""
    return body + _base62(zlib.crc32(body.encode()), 6)


def has_checksum(key: str) -> bool:
    """Return whether a key's last characters are the checksum of the others."""
    return hmac.compare_digest(with_checksum(key[:-6]), key)


def matches(key: str, secret: str, known: str | None) -> bool:
    """Return whether a secret is that of a hash; None for a key of unknown id, whose secret never is.

    That a key matches a hash stays true for ever, so that a process that found it once need not spend 64 MiB on it
    at every request; the row, and with it revocation and expiry, is read all the same. Only who holds a valid key is
    answered sooner for it.
    """
    from argon2.exceptions import InvalidHashError, VerificationError

    digest = hashlib.sha256(key.encode()).digest()
    if known is not None and _proven.get(digest) == known:
        return True
    try:
        _hasher().verify(known or _DECOY, secret)
    except (VerificationError, InvalidHashError):
        return False
    if known is None:
        return False
    if len(_proven) >= _MOST_PROVEN:
        _proven.clear()
    _proven[digest] = known
    return True


def _base62(number: int, digits: int) -> str:
    text = ""
    for _ in range(digits):
        number, rest = divmod(number, len(_DIGITS))
        text = _DIGITS[rest] + text
    return text


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher  # with the library's defaults: RFC 9106's second choice

    return PasswordHasher()
