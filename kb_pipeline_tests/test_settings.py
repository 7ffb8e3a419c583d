"""The environment: defaults, and errors that never repeat a password."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kb_pipeline.errors import InvalidSetting
from kb_pipeline.settings import COMMAND_VARIABLES, VARIABLES, load_api_key, load_settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*VARIABLES, *COMMAND_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KB_HOME", str(tmp_path))


def test_the_embedded_default_lives_in_the_home(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.database_url == f"sqlite:///{tmp_path}/control.db"
    assert settings.data_dir == tmp_path / "data"
    assert settings.allowed_networks == ()
    assert not settings.is_postgres


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2", "postgresql+psycopg"])
def test_our_own_driver_is_psycopg_3_whatever_was_named(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setenv("KB_DATABASE_URL", f"{scheme}://u:p@h/db")
    assert load_settings().database_url == "postgresql+psycopg://u:p@h/db"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KB_DATABASE_URL", "mysql://root:hunter2@h/db"),
        ("KB_STORAGE_URI", "s3://bucket"),
        ("KB_ALLOW_PRIVATE_NETWORKS", "10.0.0.0/8,hunter2"),
        ("KB_LOG_FORMAT", "xml"),
        ("KB_CONTACT", "a@b.example\nEvil: header"),
        ("KB_PROXY", "http://user:hunter2@proxy:3128"),
        ("KB_PROXY", "socks5://proxy:1080"),
        ("KB_FILE_VARIABLES", "HOST_NAME,KB_DATABASE_URL"),
        ("KB_FILE_VARIABLES", "hunter 2"),
    ],
)
def test_impossible_values_name_the_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSetting, match=name) as caught:
        load_settings()
    assert name == "KB_ALLOW_PRIVATE_NETWORKS" or "hunter2" not in str(caught.value)


def test_settings_that_are_printed_show_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "KB_DATABASE_URL": "postgresql://u:hunter2@h/db",
        "KB_SECRET_KEYS": "hunter2",
        "KB_FILE_VARIABLES": "TOKEN",
        "TOKEN": "hunter2",
    }.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert "hunter2" not in repr(settings)
    assert settings.file_variables == {"TOKEN": "hunter2"}


def test_files_take_nothing_from_the_environment_unless_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST_NAME", "x.example")
    assert load_settings().file_variables == {}


def test_a_key_file_that_holds_no_key_is_an_error_and_not_the_operator(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert load_api_key() == ""
    monkeypatch.setenv("KB_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(InvalidSetting, match="KB_KEY_FILE"):
        load_api_key()
    (tmp_path / "key").write_text("kb_acme_x\n")
    assert load_api_key() == "kb_acme_x"


def test_the_user_agent_names_the_contact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KB_CONTACT", "ops@acme.example")
    assert load_settings().user_agent.startswith("kb_pipeline/")
    assert load_settings().user_agent.endswith("(+ops@acme.example)")


def test_the_database_url_may_lie_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "database_url"
    secret.write_text("postgresql://u:hunter2@h/db\n")
    monkeypatch.setenv("KB_DATABASE_URL_FILE", str(secret))
    settings = load_settings()
    assert settings.database_url == "postgresql+psycopg://u:hunter2@h/db"
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is empty"),
        (b"\xffhunter2", "is not UTF-8"),
        (b"mysql://root:hunter2@h/db", "allowed are postgresql"),
    ],
)
def test_a_secret_file_that_is_no_use_is_named_and_never_quoted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, told: str
) -> None:
    secret = tmp_path / "database_url"
    if content is not None:
        secret.write_bytes(content)
    monkeypatch.setenv("KB_DATABASE_URL_FILE", str(secret))
    with pytest.raises(InvalidSetting, match=f"KB_DATABASE_URL_FILE: .*{told}") as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_secret_given_twice_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KB_DATABASE_URL", "postgresql://u:hunter2@h/db")
    monkeypatch.setenv("KB_DATABASE_URL_FILE", str(tmp_path / "absent"))
    with pytest.raises(InvalidSetting, match="KB_DATABASE_URL_FILE: KB_DATABASE_URL is set too") as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


def test_every_variable_that_is_read_is_known_by_name() -> None:
    source = (Path(__file__).parent.parent / "kb_pipeline/settings.py").read_text()
    assert set(re.findall(r"KB_[A-Z_]+", source)) == {*VARIABLES, *COMMAND_VARIABLES, "KB_JWT_SECRET"}
