"""What the environment says of the service: how much a request may take, and which pages elsewhere may send one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kb_pipeline.errors import InvalidSetting

SERVICE_VARIABLES = (
    "KB_MAX_BODY_BYTES",
    "KB_REQUEST_TIMEOUT_S",
    "KB_MAX_CONCURRENT_REQUESTS",
    "KB_MAX_STREAMS",
    "KB_CORS_ORIGINS",
    "KB_CORS_CREDENTIALS",
)
"""What only the service reads."""
ANY_ORIGIN = "*"
_ORIGIN = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::\d{1,5})?")
_YES, _NO = {"1", "true", "yes"}, {"", "0", "false", "no"}


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """Limits of one process of the service."""

    max_body_bytes: int = 1 << 20
    """`KB_MAX_BODY_BYTES`: of a request's body, other than an upload's."""
    request_timeout_s: int = 120
    """`KB_REQUEST_TIMEOUT_S`: from the end of a request to the beginning of its answer."""
    max_concurrent_requests: int = 36
    """`KB_MAX_CONCURRENT_REQUESTS`: answered at once, of which one tenant has two thirds at most; others wait."""
    max_streams: int = 1000
    """`KB_MAX_STREAMS`: event streams and WebSockets that are open at once, of which one tenant has half at most."""
    cors_origins: tuple[str, ...] = ()
    """`KB_CORS_ORIGINS`: origins whose pages may send requests from a browser; `*` for any."""
    cors_credentials: bool = False
    """`KB_CORS_CREDENTIALS`: whether browsers may send cookies along with them."""


def read_service_settings(environment: Mapping[str, str]) -> ServiceSettings:
    """Return what the environment says; raise InvalidSetting, naming the variable and what is allowed."""
    defaults = ServiceSettings()
    origins = tuple(part.strip() for part in environment.get("KB_CORS_ORIGINS", "").split(",") if part.strip())
    if wrong := [each for each in origins if each != ANY_ORIGIN and not _ORIGIN.fullmatch(each)]:
        raise InvalidSetting(
            "KB_CORS_ORIGINS", f"comma-separated origins, as in https://app.example.com, or *; got {', '.join(wrong)}"
        )
    credentials = _flag(environment, "KB_CORS_CREDENTIALS")
    if credentials and ANY_ORIGIN in origins:
        raise InvalidSetting("KB_CORS_CREDENTIALS", "cannot be set for every origin: list those that are meant")
    return ServiceSettings(
        max_body_bytes=_number(environment, "KB_MAX_BODY_BYTES", defaults.max_body_bytes, 1024, 1 << 30),
        request_timeout_s=_number(environment, "KB_REQUEST_TIMEOUT_S", defaults.request_timeout_s, 1, 3600),
        max_concurrent_requests=_number(
            environment, "KB_MAX_CONCURRENT_REQUESTS", defaults.max_concurrent_requests, 2, 1000
        ),
        max_streams=_number(environment, "KB_MAX_STREAMS", defaults.max_streams, 2, 100_000),
        cors_origins=origins,
        cors_credentials=credentials,
    )


def _number(environment: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    given = environment.get(name, "").strip()
    if not given:
        return default
    if not (given.isascii() and given.isdecimal()) or not least <= int(given[:12]) <= most:
        raise InvalidSetting(name, f"must be a whole number from {least} to {most}")
    return int(given)


def _flag(environment: Mapping[str, str], name: str) -> bool:
    given = environment.get(name, "").strip().lower()
    if given not in _YES | _NO:
        raise InvalidSetting(name, "must be true or false")
    return given in _YES
