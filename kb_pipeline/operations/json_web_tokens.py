"""JSON Web Tokens that others issue: what one says of its holder, if it is one that the operator accepts.

Signatures and most claims are verified by PyJWT. What it is lenient about is looked at before: a token has exactly one
spelling (no padding, no white space, no second value of a name), times are finite numbers, and a header that asks for
anything beyond a signature is refused. What a header says of where keys are (`jku`, `x5u`, `jwk`) is not read.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from kb_pipeline.access_settings import AccessSettings
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.tenancy.tenants import require_active
from kb_pipeline.control.tenancy.token_holder import SCOPES, TokenHolder
from kb_pipeline.errors import InvalidKey, InvalidSetting, KeyRefused, UnknownTenant
from kb_pipeline.model import check_slug
from kb_pipeline.operations.key_sets import FAMILIES, KeySet
from kb_pipeline.spec.roles_file import RoleSpec, load_roles

_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_MAX_CHARS = 8192
_MAX_KEY_ID_CHARS = 256
_MAX_SUBJECT_CHARS = 100
_SYMMETRIC = "HS256"
_TYPES = {"jwt", "at+jwt", "application/jwt", "application/at+jwt"}
"""RFC 7519, section 5.1, and RFC 9068, section 2.1."""
_CLOCK_SKEW_S = 5
"""By which an issuer's clock may be ahead of ours: for `nbf` and `iat`, never for `exp`."""
_LATEST = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
_WHAT = "the token"
_NOT_VALID = "is not valid"


class TokenReader:
    """Reads tokens by the operator's settings; safe in many threads."""

    def __init__(self, access: AccessSettings, db: Database, proxy: str = "") -> None:
        """Read the roles file; fetch nothing yet.

        Args:
            access: which tokens are accepted.
            db: the control plane, which knows the tenants.
            proxy: through which issuers are asked; empty for none.

        Raises:
            InvalidSpec: the roles file is not valid.
            InvalidSetting: the default role is none.
        """
        self._access, self._db, self._roles = access, db, load_roles(access.roles_file)
        if access.default_role and access.default_role not in self._roles:
            raise InvalidSetting("KB_DEFAULT_ROLE", f"must be empty or one of {', '.join(self._roles)}")
        self._keys = KeySet(access.oidc_issuer, access.oidc_jwks_url, proxy) if access.oidc_issuer else None

    def authenticate(self, token: str) -> TokenHolder:
        """Return who holds the token and what it allows.

        Raises:
            KeyRefused: it is not valid, or says nothing that means anything here.
            TenantInactive: its tenant is suspended, or being deleted.
            IssuerAway: the keys of its issuer cannot be fetched at present.
        """
        claims = self._verified(token)
        expires_at = datetime.fromtimestamp(claims["exp"], UTC)
        tenant = self._tenant(claims)
        scopes, kbs = self._rights(claims)
        return TokenHolder("token", _subject(claims), tenant, scopes, kbs, expires_at)

    def _verified(self, token: str) -> dict[str, Any]:
        import jwt

        if len(token) > _MAX_CHARS or _FORM.fullmatch(token) is None:
            raise KeyRefused(_NOT_VALID, _WHAT)
        header, claims, _ = (_decoded(part) for part in token.split("."))
        key, algorithm, audience, issuer = self._key_for(_read(header))
        _check_times(read := _read(claims))
        try:
            jwt.decode(
                token, key, algorithms=[algorithm], audience=audience, issuer=issuer, leeway=_CLOCK_SKEW_S,
                options={"require": ["exp", *(["iss"] if issuer else [])]},
            )  # fmt: skip
        except (jwt.InvalidAudienceError, jwt.InvalidIssuerError):
            raise KeyRefused("was issued by or for somebody else", _WHAT) from None
        except jwt.ImmatureSignatureError:
            raise KeyRefused("is not valid yet", _WHAT) from None
        except jwt.ExpiredSignatureError:
            raise KeyRefused("has expired", _WHAT) from None
        except (jwt.PyJWTError, ValueError, TypeError):
            raise KeyRefused(_NOT_VALID, _WHAT) from None
        if read["exp"] <= datetime.now(UTC).timestamp():
            raise KeyRefused("has expired", _WHAT)
        return read

    def _key_for(self, header: Mapping[str, Any]) -> tuple[Any, str, str | None, str | None]:
        """Return the key, and the algorithm, audience and issuer that go with it; the token has no choice in them."""
        kind, key_id = header.get("typ", "JWT"), header.get("kid")
        if not isinstance(kind, str) or kind.lower() not in _TYPES or "crit" in header or "b64" in header:
            raise KeyRefused(_NOT_VALID, _WHAT)
        if key_id is not None and not (isinstance(key_id, str) and len(key_id) <= _MAX_KEY_ID_CHARS):
            raise KeyRefused(_NOT_VALID, _WHAT)
        access, algorithm = self._access, header.get("alg")
        if algorithm == _SYMMETRIC and access.jwt_secret:
            return access.jwt_secret, _SYMMETRIC, access.jwt_audience or None, access.jwt_issuer or None
        if isinstance(algorithm, str) and algorithm in FAMILIES and self._keys is not None:
            key = self._keys.find(key_id, algorithm)
            if key is not None:
                return key, algorithm, access.oidc_audience, access.oidc_issuer
        raise KeyRefused(_NOT_VALID, _WHAT)

    def _tenant(self, claims: Mapping[str, Any]) -> str:
        """Return the tenant; one that does not exist is told from none by nobody."""
        try:
            named = _claim(claims, self._access.tenant_claim)
            tenant = check_slug(named if isinstance(named, str) else "")
            require_active(self._db, tenant)
        except (InvalidKey, UnknownTenant):
            raise KeyRefused(f"names no tenant of this installation in {self._access.tenant_claim}", _WHAT) from None
        return tenant

    def _rights(self, claims: Mapping[str, Any]) -> tuple[frozenset[str], frozenset[str] | None]:
        """Return the scopes and the only KBs (None for all) that a token gives, by its roles, scopes and kbs."""
        named = self._roles_of(claims)
        given = {scope for role in named for scope in role.scopes}
        limits = {None if role.kbs is None else frozenset(role.kbs) for role in named}
        if len(limits) > 1:  # together they would allow in one KB what only the other role allows elsewhere
            raise KeyRefused("has roles for different KBs, which cannot be combined", _WHAT)
        scopes = frozenset(given | _scopes(claims))
        if not scopes:
            raise KeyRefused("gives neither a role nor a scope", _WHAT)
        kbs = limits.pop() if limits else None
        only = _kbs(claims)
        if only is not None:
            kbs = only if kbs is None else kbs & only
        return scopes, kbs

    def _roles_of(self, claims: Mapping[str, Any]) -> Sequence[RoleSpec]:
        written = _claim(claims, self._access.roles_claim)
        if written is None:
            says_scopes = "scopes" in claims or "scope" in claims
            written = [] if says_scopes or not self._access.default_role else [self._access.default_role]
        names = [written] if isinstance(written, str) else _strings(written)
        if not set(names) <= self._roles.keys():
            raise KeyRefused("names a role that there is not", _WHAT)
        return [self._roles[name] for name in names]


def _decoded(part: str) -> bytes:
    """Return the bytes of a part of a token; raise KeyRefused unless this is their one spelling."""
    try:
        decoded = base64.b64decode(part + "=" * (-len(part) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise KeyRefused(_NOT_VALID, _WHAT) from None
    if base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() != part:
        raise KeyRefused(_NOT_VALID, _WHAT)
    return decoded


def _read(written: bytes) -> dict[str, Any]:
    """Return a JSON object; raise KeyRefused also for names that repeat and for NaN."""
    try:
        read = json.loads(written.decode(), object_pairs_hook=_distinct, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise KeyRefused(_NOT_VALID, _WHAT) from None
    if not isinstance(read, dict):
        raise KeyRefused(_NOT_VALID, _WHAT)
    return read


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(read := dict(pairs)) != len(pairs):
        raise ValueError("a name repeats")
    return read


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _check_times(claims: Mapping[str, Any]) -> None:
    for name in ("exp", "nbf", "iat"):
        at = claims.get(name)
        if at is None and name != "exp" and name not in claims:
            continue
        if isinstance(at, bool) or not isinstance(at, int | float) or not math.isfinite(at) or not 0 <= at < _LATEST:
            raise KeyRefused(_NOT_VALID, _WHAT)


def _claim(claims: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - whatever the issuer wrote
    """Return a claim by its name, or by names joined with dots that lead into objects; None where there is none."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _scopes(claims: Mapping[str, Any]) -> set[str]:
    """Return the scopes of `scopes`, a list of ours, and of `scope`, words of which others are for other programs."""
    listed, words = _strings(claims.get("scopes", [])), claims.get("scope", "")
    if not set(listed) <= set(SCOPES):
        raise KeyRefused("names a scope that there is not", _WHAT)
    if not isinstance(words, str):
        raise KeyRefused(_NOT_VALID, _WHAT)
    return {*listed, *(word for word in words.split() if word in SCOPES)}


def _kbs(claims: Mapping[str, Any]) -> frozenset[str] | None:
    if "kbs" not in claims:
        return None
    try:
        return frozenset(check_slug(name) for name in _strings(claims["kbs"]))
    except InvalidKey:
        raise KeyRefused("names what can be no KB", _WHAT) from None


def _strings(written: object) -> list[str]:
    if not isinstance(written, list) or not all(isinstance(each, str) for each in written):
        raise KeyRefused(_NOT_VALID, _WHAT)
    return written


def _subject(claims: Mapping[str, Any]) -> str:
    """Return whom the audit log names."""
    subject = claims.get("sub", "of nobody named")
    if not isinstance(subject, str) or not subject.isprintable() or not 0 < len(subject) <= _MAX_SUBJECT_CHARS:
        raise KeyRefused(f"must have a printable sub of at most {_MAX_SUBJECT_CHARS} characters", _WHAT)
    return subject
