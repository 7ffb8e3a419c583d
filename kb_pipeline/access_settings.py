"""What the environment says of who may call: tokens that others issue, and what their claims mean here."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from kb_pipeline.errors import InvalidSetting

ACCESS_VARIABLES = (
    "KB_JWT_SECRET",
    "KB_JWT_SECRET_FILE",
    "KB_JWT_ISSUER",
    "KB_JWT_AUDIENCE",
    "KB_OIDC_ISSUER",
    "KB_OIDC_AUDIENCE",
    "KB_OIDC_JWKS_URL",
    "KB_TENANT_CLAIM",
    "KB_ROLES_CLAIM",
    "KB_DEFAULT_ROLE",
    "KB_ROLES_FILE",
)
"""What those who look at tokens read; runs need none of it."""
_LEAST_SECRET_BYTES = 32
"""RFC 7518, section 3.2: a key of the size of the hash or larger."""
_LONGEST_CLAIM = 200


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Which JSON Web Tokens are accepted, and what their claims mean."""

    jwt_secret: str = field(default="", repr=False)
    """`KB_JWT_SECRET`: what tokens are signed with by HS256; empty accepts none."""
    jwt_issuer: str = ""
    """`KB_JWT_ISSUER`: the `iss` that those tokens must have; empty for any."""
    jwt_audience: str = ""
    """`KB_JWT_AUDIENCE`: the `aud` that those tokens must name; without one, tokens that name any are refused."""
    oidc_issuer: str = ""
    """`KB_OIDC_ISSUER`: whose tokens are accepted, signed with a key of its key set; empty for nobody's."""
    oidc_audience: str = ""
    """`KB_OIDC_AUDIENCE`: the `aud` that those tokens must name."""
    oidc_jwks_url: str = ""
    """`KB_OIDC_JWKS_URL`: where its key set is; empty for what the issuer's configuration names."""
    tenant_claim: str = "tenant_id"
    """`KB_TENANT_CLAIM`: the claim that names the tenant."""
    roles_claim: str = "roles"
    """`KB_ROLES_CLAIM`: the claim that lists roles; dots lead into objects, as in `realm_access.roles`."""
    default_role: str = "reader"
    """`KB_DEFAULT_ROLE`: of tokens that name neither roles nor scopes; empty refuses them."""
    roles_file: Path | None = None
    """`KB_ROLES_FILE`: the file that says what each role may do."""

    @property
    def takes_tokens(self) -> bool:
        """Whether any JSON Web Token is accepted."""
        return bool(self.jwt_secret or self.oidc_issuer)


def read_access_settings(environment: Mapping[str, str], secret_name: str, jwt_secret: str) -> AccessSettings:
    """Return what the environment says.

    Args:
        environment: variables by name.
        secret_name: the variable that the secret comes from, `KB_JWT_SECRET` or `KB_JWT_SECRET_FILE`.
        jwt_secret: the secret.

    Raises:
        InvalidSetting: naming the variable and what is allowed.
    """
    given = {name: environment.get(name, "").strip() for name in ACCESS_VARIABLES}
    if jwt_secret and len(jwt_secret.encode()) < _LEAST_SECRET_BYTES:
        raise InvalidSetting(
            secret_name, f"must have at least {_LEAST_SECRET_BYTES} bytes, as from: openssl rand -base64 32"
        )
    for name in ("KB_OIDC_AUDIENCE", "KB_OIDC_JWKS_URL"):
        if given[name] and not given["KB_OIDC_ISSUER"]:
            raise InvalidSetting(name, "KB_OIDC_ISSUER must be set too: whose tokens are accepted")
    if given["KB_OIDC_ISSUER"] and not given["KB_OIDC_AUDIENCE"]:
        raise InvalidSetting(
            "KB_OIDC_AUDIENCE", "must be set with KB_OIDC_ISSUER: tokens for other programs would be accepted"
        )
    for name in ("KB_OIDC_ISSUER", "KB_OIDC_JWKS_URL"):
        if given[name] and not is_safe_url(given[name]):
            raise InvalidSetting(name, "must be https://..., or http:// on a loopback address")
    roles_file = given["KB_ROLES_FILE"]
    return AccessSettings(
        jwt_secret=jwt_secret,
        jwt_issuer=given["KB_JWT_ISSUER"],
        jwt_audience=given["KB_JWT_AUDIENCE"],
        oidc_issuer=given["KB_OIDC_ISSUER"],
        oidc_audience=given["KB_OIDC_AUDIENCE"],
        oidc_jwks_url=given["KB_OIDC_JWKS_URL"],
        tenant_claim=_claim("KB_TENANT_CLAIM", given, "tenant_id"),
        roles_claim=_claim("KB_ROLES_CLAIM", given, "roles"),
        default_role=environment.get("KB_DEFAULT_ROLE", "reader").strip(),
        roles_file=Path(roles_file).expanduser().resolve() if roles_file else None,
    )


def is_safe_url(url: str) -> bool:
    """Return whether keys may be fetched from a URL: nobody in between can change what it answers."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.username is not None or parts.fragment or not host:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _claim(name: str, given: Mapping[str, str], default: str) -> str:
    if len(given[name]) > _LONGEST_CLAIM:
        raise InvalidSetting(name, f"must be the name of a claim, of at most {_LONGEST_CLAIM} characters")
    return given[name] or default
