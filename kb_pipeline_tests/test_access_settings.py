"""Settings of tokens: secrets that are too short and key sets that others could change are refused."""

from __future__ import annotations

import pytest

from kb_pipeline.access_settings import ACCESS_VARIABLES, is_safe_url
from kb_pipeline.errors import InvalidSetting
from kb_pipeline.settings import load_settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ACCESS_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_no_token_of_others_is_accepted_by_default() -> None:
    access = load_settings().access
    assert not access.takes_tokens
    assert (access.tenant_claim, access.roles_claim, access.default_role) == ("tenant_id", "roles", "reader")


@pytest.mark.parametrize(
    "given",
    [
        {"KB_JWT_SECRET": "hunter2"},
        {"KB_JWT_SECRET": "x" * 31},
        {"KB_OIDC_ISSUER": "https://id.example"},
        {"KB_OIDC_ISSUER": "http://id.example", "KB_OIDC_AUDIENCE": "kb"},
        {"KB_OIDC_ISSUER": "https://id.example", "KB_OIDC_AUDIENCE": "kb", "KB_OIDC_JWKS_URL": "file:///etc/keys"},
        {"KB_OIDC_AUDIENCE": "kb"},
        {"KB_OIDC_JWKS_URL": "https://id.example/keys"},
        {"KB_TENANT_CLAIM": "c" * 201},
    ],
)
def test_impossible_values_name_the_variable(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSetting) as caught:
        load_settings()
    assert caught.value.name in ACCESS_VARIABLES
    assert "hunter2" not in str(caught.value)


def test_the_secret_may_lie_in_a_file_and_is_never_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("secret") / "jwt"
    path.write_text("hunter2" * 5 + "\n")
    monkeypatch.setenv("KB_JWT_SECRET_FILE", str(path))
    settings = load_settings()
    assert settings.access.jwt_secret == "hunter2" * 5
    assert "hunter2" not in repr(settings)
    path.write_text("hunter2")
    with pytest.raises(InvalidSetting, match="KB_JWT_SECRET_FILE: must have at least 32 bytes"):
        load_settings()


@pytest.mark.parametrize(
    ("url", "is_safe"),
    [
        ("https://id.example/keys", True), ("http://127.0.0.1:8080", True), ("http://[::1]/", True),
        ("http://localhost/keys", True), ("http://127.0.0.1.nip.example/", False), ("http://id.example", False),
        ("ftp://127.0.0.1/", False), ("https://user@id.example/", False), ("https://", False), ("//id.example", False),
        ("http://[::1", False), ("https://id.example/#x", False),
    ],
)  # fmt: skip
def test_keys_come_only_from_where_nobody_in_between_can_change_them(url: str, is_safe: bool) -> None:
    assert is_safe_url(url) is is_safe
