"""Secrets: encrypted under the operator's keys, each tenant's for its own files only."""

from __future__ import annotations

import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Secret
from kb_pipeline.control.tenancy import audit, tenants
from kb_pipeline.control.tenancy.secrets import (
    KEY_FILE,
    delete_secret,
    list_secrets,
    new_key,
    rotate_secrets,
    set_secret,
    variables_of,
)
from kb_pipeline.errors import InvalidSetting, SecretUnreadable, UnknownSecret, UnknownTenant, UsageError
from kb_pipeline.settings import Settings

OLD, NEW = new_key(), new_key()


@pytest.fixture
def db(db: Database) -> Database:
    """With two tenants."""
    for tenant in ("acme", "globex"):
        tenants.create_tenant(db, tenant, "default", "tester")
    return db


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """With a key of the operator's."""
    home = tmp_path / "home"
    return Settings(home, "", home / "data", "", (), "text", secret_keys=(OLD,))


def put(settings: Settings, db: Database, value: str = "hunter2", tenant: str = "acme", name: str = "TOKEN") -> None:
    set_secret(settings, db, tenant, name, value, "alice")


def value_of(settings: Settings, db: Database, tenant: str = "acme", name: str = "TOKEN") -> str | None:
    return variables_of(settings, db, tenant, [name]).get(name)


def test_a_secret_is_its_tenants_only(settings: Settings, db: Database) -> None:
    put(settings, db)
    put(settings, db, "swordfish", "globex")
    assert (value_of(settings, db), value_of(settings, db, "globex")) == ("hunter2", "swordfish")
    delete_secret(db, "globex", "TOKEN", "alice")
    assert (value_of(settings, db), value_of(settings, db, "globex")) == ("hunter2", None)


def test_it_comes_before_what_the_operator_opened_of_the_environment(settings: Settings, db: Database) -> None:
    opened = replace(settings, file_variables={"TOKEN": "of all", "HOST": "x.example", "OTHER": "y"})
    assert variables_of(opened, db, "acme", ["TOKEN", "HOST"]) == {"TOKEN": "of all", "HOST": "x.example"}
    put(settings, db)
    assert variables_of(opened, db, "acme", ["TOKEN", "HOST"]) == {"TOKEN": "hunter2", "HOST": "x.example"}


def test_the_log_and_the_list_say_who_and_when_and_never_what(settings: Settings, db: Database) -> None:
    put(settings, db, "first value")
    put(settings, db, "second value")
    delete_secret(db, "acme", "TOKEN", "bob")
    put(settings, db, "third value")
    (listed,) = list_secrets(db, "acme")
    entries = [entry for entry in audit.list_entries(db, "acme") if entry.action.startswith("secret.")]
    assert [(e.actor, e.action, e.subject) for e in entries] == [
        ("alice", "secret.set", "TOKEN"),
        ("alice", "secret.set", "TOKEN"),
        ("bob", "secret.delete", "TOKEN"),
        ("alice", "secret.set", "TOKEN"),
    ]
    assert (listed.name, listed.updated_by) == ("TOKEN", "alice")
    with db.read("acme") as session:
        stored = session.get_one(Secret, ("acme", "TOKEN")).token
    assert "value" not in repr([listed, entries, stored])


def test_rotating_needs_the_old_key_no_more(settings: Settings, db: Database) -> None:
    put(settings, db)
    put(settings, db, "swordfish", "globex")
    both = replace(settings, secret_keys=(NEW, OLD))
    assert value_of(both, db) == "hunter2"
    rotation = rotate_secrets(both, db, "alice")
    assert (rotation.rotated, rotation.lost) == (2, ())
    only_new = replace(settings, secret_keys=(NEW,))
    assert (value_of(only_new, db), value_of(only_new, db, "globex")) == ("hunter2", "swordfish")
    with pytest.raises(SecretUnreadable):
        value_of(settings, db)


def test_a_value_whose_key_is_lost_is_named_and_does_not_stop_the_others(settings: Settings, db: Database) -> None:
    put(settings, db)
    put(settings, db, "swordfish", "globex")
    other = replace(settings, secret_keys=(NEW,))
    put(other, db, "open", "acme", "FRESH")
    with pytest.raises(SecretUnreadable, match="acme: the secret TOKEN cannot be decrypted") as caught:
        variables_of(other, db, "acme", ["TOKEN", "FRESH"])
    assert "hunter2" not in str(caught.value)
    assert value_of(other, db, name="FRESH") == "open"
    rotation = rotate_secrets(other, db, "alice")
    assert (rotation.rotated, rotation.lost) == (1, ("acme TOKEN", "globex TOKEN"))
    assert value_of(settings, db) == "hunter2"


def test_a_row_copied_to_another_tenant_or_name_is_of_no_use(settings: Settings, db: Database) -> None:
    put(settings, db, "swordfish", "globex")
    put(settings, db)
    with db.write_all() as session:
        session.get_one(Secret, ("acme", "TOKEN")).token = session.get_one(Secret, ("globex", "TOKEN")).token
    with pytest.raises(SecretUnreadable):
        value_of(settings, db)


def test_without_keys_of_the_operators_one_is_made_that_only_its_owner_reads(settings: Settings, db: Database) -> None:
    bare = replace(settings, secret_keys=())
    path = settings.home / KEY_FILE
    assert value_of(bare, db) is None
    assert not path.exists()
    put(bare, db)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in settings.home.iterdir()] == [KEY_FILE]
    assert value_of(bare, db) == "hunter2"
    path.chmod(0o644)
    with pytest.raises(InvalidSetting, match="chmod 600"):
        value_of(bare, db)
    path.unlink()
    with pytest.raises(SecretUnreadable):
        value_of(bare, db)
    assert not path.exists()


def test_of_many_who_make_the_first_key_at_once_one_wins(settings: Settings, db: Database) -> None:
    bare = replace(settings, secret_keys=())
    threads = [threading.Thread(target=put, args=(bare, db, "v", "acme", f"N{n}")) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(variables_of(bare, db, "acme", [f"N{n}" for n in range(8)])) == 8


def test_keys_may_lie_in_a_file_and_what_is_no_key_is_not_repeated(
    settings: Settings, db: Database, tmp_path: Path
) -> None:
    path = tmp_path / "keys"
    filed = replace(settings, secret_keys=(), secret_keys_file=path)
    with pytest.raises(InvalidSetting, match="KB_SECRET_KEYS_FILE"):
        put(filed, db)
    path.write_text(f"{NEW}\n{OLD}\n")
    put(filed, db)
    assert value_of(replace(settings, secret_keys=(NEW,)), db) == "hunter2"
    for wrong in ("hunter2", OLD[:-2], "pässwörd"):
        with pytest.raises(InvalidSetting, match="KB_SECRET_KEYS") as caught:
            put(replace(settings, secret_keys=(wrong,)), db)
        assert wrong not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"), [("1X", "v"), ("A-B", "v"), ("", "v"), ("X", ""), ("X", "a\0"), ("X", "v" * 4097)]
)
def test_what_is_no_name_or_no_value_is_refused(settings: Settings, db: Database, name: str, value: str) -> None:
    with pytest.raises(UsageError):
        set_secret(settings, db, "acme", name, value, "alice")


def test_what_is_unknown_is_said(settings: Settings, db: Database) -> None:
    with pytest.raises(UnknownTenant):
        put(settings, db, tenant="initech")
    put(settings, db)
    with pytest.raises(UnknownSecret, match="kb secret list globex"):
        delete_secret(db, "globex", "TOKEN", "alice")
